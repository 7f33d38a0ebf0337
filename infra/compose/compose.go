// Package compose makes a compose file of the task definitions of a template, so
// that what is tested on one machine is what would be deployed: containers,
// settings, secrets, mounts, health and start order are read from the template.
// What AWS has and one machine has not is replaced:
//
//	task (awsvpc)      a container that holds the network; the others join it
//	EFS access point   a volume; the task's own disk, another
//	S3 bucket          versitygw, and a container that makes the bucket
//	Secrets Manager    a file for each secret, and the setting's _FILE variant
//	Cloud Map          the name of the node as a network alias
//
// The file is JSON, which every reader of YAML takes.
package compose

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/infra/template"
)

// Options are what is not in a template.
type Options struct {
	NodeImage, ClusterImage string
	// HolderImage is local-cluster: it keeps the network of a task, and makes the bucket.
	HolderImage string
	// S3Image is versitygw; used where the template has a bucket.
	S3Image string
	// SecretsDir has a file for each secret, named as the resource.
	SecretsDir string
	// Namespace is the domain of the nodes' names.
	Namespace string
}

type object = map[string]any

// S3Port and the keys are those of the S3 server.
const (
	S3Port    = 7070
	S3User    = "test"
	S3Key     = "test-secret"
	S3Service = "s3"
	s3Bucket  = "blocks"
)

// s3Keys are the files in Options.SecretsDir of the S3 server's keys, beside
// the secrets of the template.
var s3Keys = map[string]string{"S3User": S3User, "S3Key": S3Key}

var s3URL = fmt.Sprintf("http://%s:%d", S3Service, S3Port)

// Make reads a template with its parameters and gives a compose file.
func Make(l template.Launch, o Options) ([]byte, error) {
	services, volumes, secrets := object{}, object{}, object{}
	bucket := len(l.OfType("AWS::S3::Bucket")) > 0
	if bucket {
		services[S3Service] = object{
			"image": o.S3Image, "volumes": []any{"s3:/data/s3"},
			"environment": object{"ROOT_ACCESS_KEY": S3User, "ROOT_SECRET_KEY": S3Key},
		}
		volumes["s3"] = object{}
		services[s3Bucket] = object{
			"image": o.HolderImage, "command": []any{"bucket", "--endpoint", s3URL, "--name", s3Bucket,
				"--access-key-file", "/run/secrets/S3User", "--secret-key-file", "/run/secrets/S3Key"},
			"secrets": []any{"S3User", "S3Key"},
		}
		for id := range s3Keys {
			secrets[id] = object{"file": o.SecretsDir + "/" + id}
		}
	}
	for _, id := range l.OfType("AWS::ECS::Service") {
		s, err := l.Resource(id)
		if err != nil {
			return nil, err
		}
		d, err := l.Resource(fmt.Sprint(s["TaskDefinition"]))
		if err != nil {
			return nil, err
		}
		name, err := hostName(l, s)
		if err != nil {
			return nil, err
		}
		services[name] = object{"image": o.HolderImage, "command": []any{"hold"}, "networks": object{"default": object{"aliases": []any{name + "." + o.Namespace}}}}

		mounts := map[string]string{}
		for _, v := range list(d["Volumes"]) {
			volume := v.(object)
			full := name + "-" + fmt.Sprint(volume["Name"])
			mounts[fmt.Sprint(volume["Name"])] = full
			volumes[full] = object{}
		}
		for _, c := range list(d["ContainerDefinitions"]) {
			container := c.(object)
			service, err := one(l, container, name, mounts, secrets, o)
			if err != nil {
				return nil, fmt.Errorf("%s, container %v: %w", id, container["Name"], err)
			}
			if bucket && service["environment"].(object)["IPFS_BLOCKSTORE"] == "s3" {
				env := service["environment"].(object)
				env["IPFS_S3_ENDPOINT"], env["IPFS_S3_BUCKET"] = s3URL, s3Bucket
				env["AWS_REGION"], env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"] = "us-east-1", S3User, S3Key
				env["AWS_EC2_METADATA_DISABLED"] = "true"
				service["depends_on"].(object)[s3Bucket] = object{"condition": "service_completed_successfully"}
			}
			services[name+"-"+fmt.Sprint(container["Name"])] = service
		}
	}
	file := object{"version": "3.9", "services": services, "volumes": volumes}
	if len(secrets) > 0 {
		file["secrets"] = secrets
	}
	return json.MarshalIndent(file, "", "  ")
}

// one container of a task as a service.
func one(l template.Launch, c object, task string, mounts map[string]string, secrets object, o Options) (object, error) {
	env := object{}
	for _, e := range list(c["Environment"]) {
		env[fmt.Sprint(e.(object)["Name"])] = fmt.Sprint(e.(object)["Value"])
	}
	service := object{
		"image": c["Image"], "network_mode": "service:" + task, "environment": env,
		"read_only": c["ReadonlyRootFilesystem"], "stop_grace_period": fmt.Sprintf("%vs", c["StopTimeout"]),
		"depends_on": object{task: object{"condition": "service_started"}},
	}
	if drop := list(at(c, "LinuxParameters", "Capabilities", "Drop")); len(drop) > 0 {
		service["cap_drop"] = drop
	}
	if health, _ := c["HealthCheck"].(object); health != nil {
		service["healthcheck"] = object{
			"test": health["Command"], "interval": fmt.Sprintf("%vs", health["Interval"]), "retries": health["Retries"], "start_period": fmt.Sprintf("%vs", health["StartPeriod"]),
		}
	}
	for _, d := range list(c["DependsOn"]) {
		conditions := map[string]string{"HEALTHY": "service_healthy", "START": "service_started"}
		condition, ok := conditions[fmt.Sprint(d.(object)["Condition"])]
		if !ok {
			return nil, fmt.Errorf("a dependency %v has no counterpart in compose", d)
		}
		service["depends_on"].(object)[task+"-"+fmt.Sprint(d.(object)["ContainerName"])] = object{"condition": condition}
	}
	var volumes []any
	for _, m := range list(c["MountPoints"]) {
		volume, ok := mounts[fmt.Sprint(m.(object)["SourceVolume"])]
		if !ok {
			return nil, fmt.Errorf("the task has no volume %v", m.(object)["SourceVolume"])
		}
		volumes = append(volumes, volume+":"+fmt.Sprint(m.(object)["ContainerPath"]))
	}
	service["volumes"] = volumes
	var needs []any
	for _, s := range list(c["Secrets"]) {
		id := fmt.Sprint(s.(object)["ValueFrom"])
		if l.Resources[id].Type != "AWS::SecretsManager::Secret" {
			return nil, fmt.Errorf("%s is no secret of the template", id)
		}
		secrets[id] = object{"file": o.SecretsDir + "/" + id}
		needs = append(needs, id)
		env[fmt.Sprint(s.(object)["Name"])+"_FILE"] = "/run/secrets/" + id
	}
	if needs != nil {
		service["secrets"] = needs
	}
	return service, nil
}

// hostName is what Cloud Map calls a service.
func hostName(l template.Launch, service object) (string, error) {
	registry := fmt.Sprint(at(service, "ServiceRegistries", 0, "RegistryArn"))
	id := strings.TrimSuffix(registry, ".Arn")
	r, err := l.Resource(id)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(r["Name"]), nil
}

func list(v any) []any { l, _ := v.([]any); return l }

func at(v any, path ...any) any {
	for _, p := range path {
		if i, ok := p.(int); ok {
			if l := list(v); i < len(l) {
				v = l[i]
				continue
			}
			return nil
		}
		m, _ := v.(object)
		v = m[p.(string)]
	}
	return v
}

// Secrets lists the secrets that the tasks of a template need, so that whoever
// starts the compose file can write them; those of the S3 server have the keys
// of this package.
func Secrets(l template.Launch) ([]string, error) {
	names := map[string]bool{}
	if len(l.OfType("AWS::S3::Bucket")) > 0 {
		for id := range s3Keys {
			names[id] = true
		}
	}
	for _, id := range l.OfType("AWS::ECS::TaskDefinition") {
		d, err := l.Resource(id)
		if err != nil {
			return nil, err
		}
		for _, c := range list(d["ContainerDefinitions"]) {
			for _, s := range list(c.(object)["Secrets"]) {
				names[fmt.Sprint(s.(object)["ValueFrom"])] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}
