// Package compose makes a compose file of the task definitions of a template, so
// that what is tested on one machine is what would be deployed: containers,
// settings, secrets, mounts, memory, health and start order are read from the
// template, and so is where the balancer sends requests. What AWS has and one
// machine has not is replaced:
//
//	task (awsvpc)         a container that holds the network; the others join it
//	EFS access point      a volume; for the task's own disk, one without a name
//	S3 bucket, task role  versitygw, and a container that makes the bucket; keys
//	Secrets Manager       a file for each secret, and the setting's _FILE variant
//	Cloud Map             the name of the node as a network alias
//	run-task of hands     a service NODE-ipfs-hands or NODE-cluster-hands, which no `up` starts: `run` gives it a command
//	ALB and CloudFront    the edge of docker/compose.yaml, with HTTPS and no cache
//
// Secrets, certificates and ports come from where docker/compose.yaml has them
// from: the variables VERSION, STATE_DIR, GATEWAY_PORT and API_PORT, so that
// `local-cluster compose up --files FOLDER` starts either.
package compose

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/infra/template"
)

type object = map[string]any

const (
	tag    = ":${VERSION:-0.1.0-dev}"
	state  = "${STATE_DIR:-../.compose}"
	holder = "local-cluster" + tag // keeps the network of a task, makes the bucket, and is the edge

	s3Service = "s3"
	s3URL     = "http://s3:7070"
	s3Bucket  = "bucket"
	region    = "us-east-1"
	accessKey = "s3_access_key"
	secretKey = "s3_secret_key"
)

// secretFiles are the files of `local-cluster compose prepare`, by secret of the
// template.
var secretFiles = map[string]string{
	"ClusterSecret": "cluster_secret", "Seed": "cluster_seed", "AdminCredentials": "rest_credentials", "SwarmKey": "swarm_key",
}

// Values are parameters that a template wants, and what it asks of AWS.
var Values = map[string]string{
	"NodeImage": "ipfs-aws" + tag, "ClusterImage": "cluster-aws" + tag, "ZoneA": region + "a", "ZoneB": region + "b", "ZoneC": region + "c",
	"Vpc": "vpc", "VpcAddresses": "10.0.0.0/16", "TaskSubnetA": "a", "TaskSubnetB": "b", "TaskSubnetC": "c", "InnerSubnetA": "d", "InnerSubnetB": "e", "InnerSubnetC": "f",
	"AWS::Region": region, "AWS::StackName": "ipfs", "AWS::AccountId": "000000000000", "AWS::Partition": "aws",
}

// Files are to be in one folder.
type Files struct {
	Compose []byte // compose.yaml, as JSON, which every reader of YAML takes
	Edge    []byte // edge.json, the configuration of the edge
}

// target is where the edge sends requests.
type target struct {
	Name  string `json:"name"`
	URL   string `json:"url"`
	Ready string `json:"ready"` // asked as the balancer asks
}

// maker has what is being made.
type maker struct {
	template.Launch
	services, volumes object
	secrets           map[string]bool
	doors             map[string][]target // by target group
	domain            string
	bucket            bool
}

// Make reads a template with its parameters.
func Make(l template.Launch) (Files, error) {
	m := &maker{
		Launch: l, services: object{}, volumes: object{}, secrets: map[string]bool{}, doors: map[string][]target{},
		bucket: len(l.OfType("AWS::S3::Bucket")) > 0,
	}
	for _, id := range l.OfType("AWS::ServiceDiscovery::PrivateDnsNamespace") {
		n, err := l.Resource(id)
		if err != nil {
			return Files{}, err
		}
		m.domain = fmt.Sprint(n["Name"])
	}
	if m.bucket {
		m.s3()
	}
	var sidecars []string
	for _, id := range l.OfType("AWS::ECS::Service") {
		sidecar, err := m.task(id)
		if err != nil {
			return Files{}, err
		}
		sidecars = append(sidecars, sidecar)
	}
	edge, err := m.edge(sidecars)
	if err != nil {
		return Files{}, err
	}
	file := object{"services": m.services, "volumes": m.volumes}
	secrets := object{}
	for name := range m.secrets {
		secrets[name] = object{"file": state + "/secrets/" + name}
	}
	file["secrets"] = secrets
	text, err := json.MarshalIndent(file, "", "  ")
	return Files{Compose: append(text, '\n'), Edge: append(edge, '\n')}, err
}

// s3 is the server, and what makes the bucket.
func (m *maker) s3() {
	m.services[s3Service] = object{
		"image": "versitygw" + tag, "volumes": []any{"s3:/data/s3"}, "env_file": []any{state + "/s3.env"}, "restart": "unless-stopped",
	}
	m.volumes["s3"] = object{}
	m.services[s3Bucket] = object{
		"image": holder, "command": []any{"bucket", "--endpoint", s3URL, "--name", "blocks",
			"--access-key-file", "/run/secrets/" + accessKey, "--secret-key-file", "/run/secrets/" + secretKey},
		"secrets": []any{accessKey, secretKey},
	}
	m.secrets[accessKey], m.secrets[secretKey] = true, true
}

// task makes the containers of an ECS service's task, and returns the name of the last to start.
func (m *maker) task(id string) (last string, err error) {
	s, err := m.Resource(id)
	if err != nil {
		return "", err
	}
	d, err := m.Resource(fmt.Sprint(s["TaskDefinition"]))
	if err != nil {
		return "", err
	}
	name, err := m.hostName(s)
	if err != nil {
		return "", err
	}
	host := name + "." + m.domain
	m.services[name] = object{"image": holder, "command": []any{"hold"}, "restart": "unless-stopped", "networks": object{"default": object{"aliases": []any{host}}}}

	mounts := m.mounts(d, name)
	for _, c := range list(d["ContainerDefinitions"]) {
		container := c.(object)
		service, err := m.container(container, name, mounts)
		if err != nil {
			return "", fmt.Errorf("%s, container %v: %w", id, container["Name"], err)
		}
		last = name + "-" + fmt.Sprint(container["Name"])
		m.services[last] = service
	}
	if err := m.hands(id, name); err != nil {
		return "", err
	}
	for _, b := range list(s["LoadBalancers"]) {
		group := fmt.Sprint(b.(object)["TargetGroupArn"])
		g, err := m.Resource(group)
		if err != nil {
			return "", err
		}
		m.doors[group] = append(m.doors[group], target{
			Name: name, URL: fmt.Sprintf("http://%s:%v", host, b.(object)["ContainerPort"]),
			Ready: fmt.Sprintf("http://%s:%v%v", host, g["HealthCheckPort"], g["HealthCheckPath"]),
		})
	}
	return last, nil
}

// mounts are what the volumes of a task definition are, by name.
func (m *maker) mounts(definition object, task string) map[string]string {
	mounts := map[string]string{}
	for _, v := range list(definition["Volumes"]) {
		volume := v.(object)
		if volume["EFSVolumeConfiguration"] != nil {
			mounts[fmt.Sprint(volume["Name"])] = fmt.Sprintf("%s-%v:", task, volume["Name"])
			m.volumes[fmt.Sprintf("%s-%v", task, volume["Name"])] = object{}
			continue
		}
		mounts[fmt.Sprint(volume["Name"])] = "" // goes with the container, as the task's own disk goes with the task
	}
	return mounts
}

// hands makes the task definitions of a node that `run-task` takes.
func (m *maker) hands(id, task string) error {
	for _, kind := range []string{"NodeHands", "ClusterHands"} {
		if _, ok := m.Resources[id+kind]; !ok {
			continue
		}
		d, err := m.Resource(id + kind)
		if err != nil {
			return err
		}
		for _, c := range list(d["ContainerDefinitions"]) {
			container := c.(object)
			service, err := m.container(container, task, m.mounts(d, task))
			if err != nil {
				return fmt.Errorf("%s, container %v: %w", id+kind, container["Name"], err)
			}
			// A task of its own: the node that it belongs to does not run.
			delete(service, "network_mode")
			delete(service["depends_on"].(object), task)
			service["restart"], service["command"], service["profiles"] = "no", container["Command"], []any{"hands"}
			m.services[task+"-"+fmt.Sprint(container["Name"])+"-hands"] = service
		}
	}
	return nil
}

// edge is for balancer and distributions: a listener of the balancer, a door.
func (m *maker) edge(after []string) ([]byte, error) {
	healthy := object{}
	for _, s := range after {
		healthy[s] = object{"condition": "service_healthy"}
	}
	m.services["edge"] = object{
		"image": holder, "command": []any{"edge", "--config", "/etc/edge.json"}, "restart": "unless-stopped", "stop_grace_period": "30s", "depends_on": healthy,
		"ports":       []any{"127.0.0.1:${GATEWAY_PORT:-8443}:8443", "127.0.0.1:${API_PORT:-9443}:9443"},
		"volumes":     []any{"./edge.json:/etc/edge.json:ro", state + "/tls/server:/data/tls:ro"},
		"healthcheck": object{"test": []any{"CMD", "local-cluster", "health"}, "interval": "2s", "timeout": "5s", "retries": 5, "start_period": "60s"},
	}
	config := object{
		"health": "127.0.0.1:8083", "checkMillis": 1000, "drainMillis": 20000,
		"tls": object{"certificate": "/data/tls/tls.crt", "key": "/data/tls/tls.key"},
	}
	for id, door := range map[string][2]string{"GatewayListener": {"gateway", ":8443"}, "ApiListener": {"api", ":9443"}} {
		l, err := m.Resource(id)
		if err != nil {
			return nil, err
		}
		targets := m.doors[fmt.Sprint(at(l, "DefaultActions", 0, "TargetGroupArn"))]
		if len(targets) == 0 {
			return nil, fmt.Errorf("nothing is behind %s", id)
		}
		config[door[0]] = object{"listen": door[1], "targets": targets}
	}
	return json.MarshalIndent(config, "", "  ")
}

// container of a task as a service.
func (m *maker) container(c object, task string, mounts map[string]string) (object, error) {
	env := object{}
	for _, e := range list(c["Environment"]) {
		env[fmt.Sprint(e.(object)["Name"])] = fmt.Sprint(e.(object)["Value"])
	}
	needs := map[string]bool{}
	for _, s := range list(c["Secrets"]) {
		id := fmt.Sprint(s.(object)["ValueFrom"])
		file, known := secretFiles[id]
		if !known || m.Resources[id].Type != "AWS::SecretsManager::Secret" {
			return nil, fmt.Errorf("%s is no secret of the template that has a file", id)
		}
		needs[file] = true
		env[fmt.Sprint(s.(object)["Name"])+"_FILE"] = "/run/secrets/" + file
	}
	service := object{
		"image": c["Image"], "network_mode": "service:" + task, "environment": env, "restart": "unless-stopped",
		"read_only": c["ReadonlyRootFilesystem"], "stop_grace_period": fmt.Sprintf("%vs", c["StopTimeout"]), "mem_limit": fmt.Sprintf("%vm", c["Memory"]),
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
	for _, p := range list(c["MountPoints"]) {
		volume, ok := mounts[fmt.Sprint(p.(object)["SourceVolume"])]
		if !ok {
			return nil, fmt.Errorf("the task has no volume %v", p.(object)["SourceVolume"])
		}
		volumes = append(volumes, volume+fmt.Sprint(p.(object)["ContainerPath"]))
	}
	service["volumes"] = volumes
	if m.bucket && env["IPFS_BLOCKSTORE"] == "s3" {
		env["IPFS_S3_ENDPOINT"], env["IPFS_S3_REGION"], env["IPFS_S3_BUCKET"] = s3URL, region, "blocks"
		env["IPFS_S3_ACCESS_KEY_FILE"], env["IPFS_S3_SECRET_KEY_FILE"] = "/run/secrets/"+accessKey, "/run/secrets/"+secretKey
		env["AWS_EC2_METADATA_DISABLED"] = "true"
		needs[accessKey], needs[secretKey] = true, true
		service["depends_on"].(object)[s3Bucket] = object{"condition": "service_completed_successfully"}
	}
	if len(needs) > 0 {
		service["secrets"] = slices.Sorted(maps.Keys(needs))
		maps.Copy(m.secrets, needs)
	}
	return service, nil
}

// hostName is what Cloud Map calls a service.
func (m *maker) hostName(service object) (string, error) {
	registry := fmt.Sprint(at(service, "ServiceRegistries", 0, "RegistryArn"))
	id := strings.TrimSuffix(registry, ".Arn")
	r, err := m.Resource(id)
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
