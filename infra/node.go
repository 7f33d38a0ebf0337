package infra

import (
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
)

const (
	namespace  = "ipfs.internal" // of the VPC; every node is a name in it
	repoPath   = "/data/ipfs"    // as in docker/ipfs-aws.Dockerfile
	pinsetPath = "/data/ipfs-cluster"
	cachePath  = "/data/cache" // on the task's own disk

	nodeContainer    = "ipfs"
	clusterContainer = "cluster"
)

func newNodes(stack awscdk.Stack, o Options, p *parameters, s storage, net net) {
	resource(stack, "Cluster", "AWS::ECS::Cluster", object{})
	resource(stack, "Namespace", "AWS::ServiceDiscovery::PrivateDnsNamespace", object{"Name": namespace, "Vpc": ref("Vpc")})
	for _, id := range []string{"NodeLogs", "ClusterLogs"} {
		keep(resource(stack, id, "AWS::Logs::LogGroup", object{"RetentionInDays": ref("LogDays")}))
	}
	secrets(stack, o, p)
	executionRole(stack, o, p)
	before := ""
	for _, n := range o.NamedNodes() {
		resource(stack, n.ID+"Role", "AWS::IAM::Role", role(s.reach(o, n)))
		taskDefinition(stack, o, p, s, n)
		hands(stack, o, p, s, n)
		service(stack, o, p, n, net, before)
		before = n.ID
	}
}

// service runs the task of one node, in the zone of its storage. It waits for the service before it:
// an update changes one node after the other, and stops at the first that does not come up.
func service(stack awscdk.Stack, o Options, p *parameters, n Named, net net, before string) {
	resource(stack, n.ID+"Name", "AWS::ServiceDiscovery::Service", object{
		"Name":      n.Name,
		"DnsConfig": object{"NamespaceId": ref("Namespace"), "DnsRecords": list{object{"Type": "A", "TTL": 10}}},
	})
	waits := []string{"GatewayListener", "ApiListener", "PinningListener", "Mount" + letters[n.Zone], "TaskGroupPeers"}
	waits = append(waits, net.ready[n.Zone]...)
	if before != "" {
		waits = append(waits, before)
	}
	pinning := p.when("HasPinningApi", equal("PinningApi", "on"))
	public := "DISABLED"
	if o.Egress == "public" {
		public = "ENABLED"
	}
	after(resource(stack, n.ID, "AWS::ECS::Service", object{
		"Cluster": ref("Cluster"), "TaskDefinition": ref(n.ID + "Task"), "DesiredCount": ref("TasksPerNode"),
		"LaunchType": "FARGATE",
		// Stop before start: two tasks cannot have one repo. If the new one does not
		// come up, the old one comes back.
		"AvailabilityZoneRebalancing": "DISABLED",
		"DeploymentConfiguration": object{
			"MinimumHealthyPercent": 0, "MaximumPercent": 100, "DeploymentCircuitBreaker": object{"Enable": true, "Rollback": true},
		},
		// For ever: ECS replaces a task that the balancer finds not ready, and one that waits for its
		// storage or makes its index is not helped by that. The container's own health is what kills.
		"HealthCheckGracePeriodSeconds": 2147483647,
		"EnableECSManagedTags":          true, "PropagateTags": "SERVICE", // or the bill of Fargate is of no stack
		"NetworkConfiguration": object{"AwsvpcConfiguration": object{
			"AssignPublicIp": public, "SecurityGroups": list{ref("TaskGroup")}, "Subnets": list{net.tasks[n.Zone]},
		}},
		"ServiceRegistries": list{object{"RegistryArn": attribute(n.ID+"Name", "Arn")}},
		"LoadBalancers": list{
			object{"ContainerName": nodeContainer, "ContainerPort": gatewayPort, "TargetGroupArn": ref("GatewayTargets")},
			object{"ContainerName": clusterContainer, "ContainerPort": apiPort, "TargetGroupArn": ref("ApiTargets")},
			choose(pinning, object{"ContainerName": clusterContainer, "ContainerPort": pinningPort, "TargetGroupArn": ref("PinningTargets")}, nil),
		},
	}), waits...)
}

func taskDefinition(stack awscdk.Stack, o Options, p *parameters, s storage, n Named) {
	node := container(nodeContainer, "ipfs-aws", "Node", nodeSettings(o, p, s, n), secretsOf(o, p, nodeContainer))
	node["MountPoints"] = list{mount("repo", repoPath), mount("cache", cachePath)}
	node["PortMappings"] = list{tcp(gatewayPort), tcp(swarmPort)}
	if !o.Private {
		node["PortMappings"] = append(node["PortMappings"].(list), object{"ContainerPort": swarmPort, "Protocol": "udp"})
	}
	sidecar := container(clusterContainer, "cluster-aws", "Cluster", clusterSettings(p, n), secretsOf(o, p, clusterContainer))
	sidecar["MountPoints"] = list{mount("pinset", pinsetPath)}
	sidecar["PortMappings"] = list{tcp(apiPort), choose(p.when("HasPinningApi", equal("PinningApi", "on")), tcp(pinningPort), nil)}
	sidecar["DependsOn"] = list{object{"ContainerName": nodeContainer, "Condition": "HEALTHY"}}
	task(stack, o, p, s, n, "Task", node, sidecar)
}

// hands are task definitions that no service runs: `run-task` runs a command of the operator's with a
// node's storage, role and settings while the node is stopped. The node's own task will not do for that,
// since its sidecar waits for a node that answers.
func hands(stack awscdk.Stack, o Options, p *parameters, s storage, n Named) {
	node := container(nodeContainer, "ipfs-aws", "Node", nodeSettings(o, p, s, n), secretsOf(o, p, nodeContainer))
	node["MountPoints"] = list{mount("repo", repoPath), mount("cache", cachePath)}
	sidecar := container(clusterContainer, "cluster-aws", "Cluster", clusterSettings(p, n), secretsOf(o, p, clusterContainer))
	sidecar["MountPoints"] = list{mount("pinset", pinsetPath)}
	for i, c := range []object{node, sidecar} {
		delete(c, "HealthCheck")
		c["Command"] = list{"container", "--check"}
		task(stack, o, p, s, n, [2]string{"NodeHands", "ClusterHands"}[i], c)
	}
}

func task(stack awscdk.Stack, o Options, p *parameters, s storage, n Named, id string, containers ...any) {
	architecture := "ARM64"
	if o.X86 {
		architecture = "X86_64"
	}
	onEFS := func(name, point string) object {
		return object{"Name": name, "EFSVolumeConfiguration": object{
			"FilesystemId": s.fileSystem(fileSystemOf(o, n.Zone)), "TransitEncryption": "ENABLED",
			"AuthorizationConfig": object{"AccessPointId": ref(point), "IAM": "ENABLED"},
		}}
	}
	larger := p.when("HasLargerDisk", not(equal("CacheSize", strconv.Itoa(smallDisk)+"GiB")))
	resource(stack, n.ID+id, "AWS::ECS::TaskDefinition", object{
		"RequiresCompatibilities": list{"FARGATE"}, "NetworkMode": "awsvpc",
		"RuntimePlatform": object{"CpuArchitecture": architecture, "OperatingSystemFamily": "LINUX"},
		"Cpu":             look("Sizes", ref("TaskSize"), "Cpu"), "Memory": look("Sizes", ref("TaskSize"), "Memory"),
		"EphemeralStorage": choose(larger, object{"SizeInGiB": look("Disks", ref("CacheSize"), "GiB")}, nil),
		"ExecutionRoleArn": attribute("ExecutionRole", "Arn"), "TaskRoleArn": attribute(n.ID+"Role", "Arn"),
		"Volumes":              list{onEFS("repo", n.ID+"Repo"), onEFS("pinset", n.ID+"Pinset"), object{"Name": "cache"}},
		"ContainerDefinitions": containers,
	})
}

// container is what both have in common. Health is whether the process answers;
// whether it is ready is what the balancer asks, and a node that waits for its
// storage is not helped by being killed.
func container(name, program, kind string, settings object, secrets list) object {
	c := object{
		"Name": name, "Image": ref(kind + "Image"), "Memory": look("Sizes", ref("TaskSize"), kind),
		"StopTimeout":            120,
		"ReadonlyRootFilesystem": true, "LinuxParameters": object{"Capabilities": object{"Drop": list{"ALL"}}},
		"Environment": environment(settings),
		"HealthCheck": object{"Command": list{"CMD", program, "health", "--live"}, "Interval": 10, "Retries": 10, "StartPeriod": 300},
		"LogConfiguration": object{"LogDriver": "awslogs", "Options": object{
			"awslogs-group": ref(kind + "Logs"), "awslogs-region": ref("AWS::Region"), "awslogs-stream-prefix": "task",
		}},
	}
	if len(secrets) > 0 {
		c["Secrets"] = secrets
	}
	return c
}

// nodeSettings are docs/settings.md's.
func nodeSettings(o Options, p *parameters, s storage, n Named) object {
	env := object{
		"IPFS_HEALTH_ADDRESS":         "0.0.0.0:" + strconv.Itoa(nodeHealthPort),
		"IPFS_WAIT_REPO_LOCK":         "5m",
		"IPFS_CLOUDWATCH_STACK":       ref("AWS::StackName"), // see stateAlarms
		"IPFS_LOGGING_FMT":            "json",                // CloudWatch Logs Insights finds the fields
		"IPFS_CONFIG_Gateway_NoFetch": ref("GatewayNoFetch"),
		// Without a limit gc would run once a day, and the sidecar's free space would be that of 1 PB.
		"IPFS_GC":          "on",
		"IPFS_STORAGE_MAX": ref("StorageMax"),
		// CloudFront's own domain has no DNSLink: without this, each request would ask the DNS for one.
		"IPFS_CONFIG_Gateway_NoDNSLink": choose(p.given("CertificateArn", ""), "false", "true"),
		// A TiB has 4 million blocks of 256 KiB. The DHT is told of pins, not of each block.
		"IPFS_CONFIG_Provide_Strategy": "roots",
	}
	if !o.Private {
		url := choose(p.given("CertificateArn", ""), sub("https://${GatewayDomain}"), sub("https://${GatewayDistribution.DomainName}"))
		env["IPFS_GATEWAY_URL"] = maybe{p.when("HasPeersOverHttps", equal("PeersOverHttps", "on")), url}
	} else { // where there is no QUIC
		env["IPFS_CONFIG_Addresses_Swarm"] = "/ip4/0.0.0.0/tcp/4001"
	}
	if o.Storage == S3 { // the region is that of the task
		env["IPFS_BLOCKSTORE"] = "s3"
		env["IPFS_S3_BUCKET"] = s.blocks()
		env["IPFS_S3_PREFIX"] = n.Name
		// The journal stays in the repo, on EFS. Index and cache can be made again.
		env["IPFS_S3_INDEX_PATH"] = cachePath + "/index"
		env["IPFS_S3_CACHE_PATH"] = cachePath + "/blocks"
		env["IPFS_S3_CACHE_SIZE"] = ref("CacheSize")
	} else {
		env["IPFS_BLOCKSTORE"] = "efs"
		env["IPFS_EFS_CACHE_PATH"] = cachePath + "/blocks"
		env["IPFS_EFS_CACHE_SIZE"] = ref("CacheSize")
	}
	return env
}

// clusterSettings are docs/cluster.md's. The RPC of the node is on loopback,
// which the containers of a task share; the zone is known from the task.
func clusterSettings(p *parameters, n Named) object {
	pinning := p.when("HasPinningApi", equal("PinningApi", "on"))
	return object{
		"CLUSTER_PEERNAME": n.Name,
		"CLUSTER_PEERS":    look("Peers", "All", "Addresses"),
		// The address of the node is right; one that makes its index again may need an hour.
		"CLUSTER_NODE_WAIT":                        "24h",
		"CLUSTER_CLOUDWATCH_STACK":                 ref("AWS::StackName"),
		"CLUSTER_HEALTH_ADDRESS":                   "0.0.0.0:" + strconv.Itoa(clusterHealthPort),
		"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS":   "/ip4/0.0.0.0/tcp/" + strconv.Itoa(apiPort),
		"CLUSTER_PINSVCAPI_ENABLED":                maybe{pinning, "true"},
		"CLUSTER_PINSVCAPI_HTTPLISTENMULTIADDRESS": maybe{pinning, "/ip4/0.0.0.0/tcp/" + strconv.Itoa(pinningPort)},
		"GOLOG_LOG_FMT":                            "json",
		"CLUSTER_REPLICATIONFACTORMIN":             look("CopiesOf", ref("Copies"), "Min"),
		"CLUSTER_REPLICATIONFACTORMAX":             look("CopiesOf", ref("Copies"), "Max"),
	}
}

// mappings are what tasks look up: the figures of a size, how many copies a pin
// has, and the setting that tells each peer of all.
func mappings(stack awscdk.Stack, o Options) {
	mapping := func(id string, m map[string]*map[string]any) {
		awscdk.NewCfnMapping(stack, jsii.String(id), &awscdk.CfnMappingProps{Mapping: &m})
	}
	all := map[string]*map[string]any{}
	for _, s := range sizes {
		all[s.Name] = &map[string]any{"Cpu": strconv.Itoa(s.CPU), "Memory": strconv.Itoa(s.Memory), "Node": s.Node, "Cluster": s.Cluster}
	}
	mapping("Sizes", all)
	disks := map[string]*map[string]any{}
	for _, c := range caches {
		disks[strconv.Itoa(c)+"GiB"] = &map[string]any{"GiB": diskOf(c)}
	}
	mapping("Disks", disks)
	mapping("CopiesOf", map[string]*map[string]any{ // an add fails if fewer than Min have it
		"all": {"Min": "-1", "Max": "-1"}, "1": {"Min": "1", "Max": "1"}, "2": {"Min": "1", "Max": "2"}, "3": {"Min": "2", "Max": "3"},
	})
	var peers []string
	for _, n := range o.NamedNodes() {
		peers = append(peers, n.Name+"=/dns4/"+n.Name+"."+namespace+"/tcp/"+strconv.Itoa(clusterPort))
	}
	mapping("Peers", map[string]*map[string]any{"All": {"Addresses": strings.Join(peers, ",")}})
}

// executionRole is what ECS itself needs to start a task: images, logs, secrets. A repository of a
// pull-through cache is filled by the first pull.
func executionRole(stack awscdk.Stack, o Options, p *parameters) {
	secrets := list{}
	for _, c := range []string{nodeContainer, clusterContainer} {
		for _, s := range secretsOf(o, p, c) {
			secrets = append(secrets, s.(object)["ValueFrom"])
		}
	}
	resource(stack, "ExecutionRole", "AWS::IAM::Role", role(list{
		allow(list{repository("NodeImage"), repository("ClusterImage")}, "ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage",
			"ecr:BatchImportUpstreamImage", "ecr:CreateRepository"),
		allow("*", "ecr:GetAuthorizationToken"), // it knows no resource
		allow(list{attribute("NodeLogs", "Arn"), attribute("ClusterLogs", "Arn")}, "logs:CreateLogStream", "logs:PutLogEvents"),
		allow(secrets, "secretsmanager:GetSecretValue"),
	}))
}

// repository is the ARN of the ECR repository that an image is in, whichever registry of the partition has
// it: behind the host, before tag or digest. An image from elsewhere is in none, so that the path of one
// without an ECR host must be something that no repository is called.
func repository(image string) object {
	const host = ".amazonaws.com/"
	path := part(1, object{"Fn::Split": list{host, sub("${" + image + "}" + host + "-")}})
	return object{"Fn::Sub": list{"arn:${AWS::Partition}:ecr:*:*:repository/${Path}", object{"Path": cut(cut(path, ":"), "@")}}}
}

// role may be taken by ECS for a task of this account, and by nobody else.
func role(statements list) object {
	return object{
		"AssumeRolePolicyDocument": object{"Version": "2012-10-17", "Statement": list{object{
			"Effect": "Allow", "Principal": object{"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole",
			"Condition": object{"StringEquals": object{"aws:SourceAccount": ref("AWS::AccountId")}},
		}}},
		"Policies": list{object{"PolicyName": "own", "PolicyDocument": object{"Version": "2012-10-17", "Statement": statements}}},
	}
}

// keptSecrets are those that a new stack can take from one that is gone: what peers and their network
// are known by.
func keptSecrets(o Options) []string {
	kept := []string{"Seed", "ClusterSecret"}
	if o.Private {
		kept = append(kept, "SwarmKey")
	}
	return kept
}

// secrets are generated in the account; nobody types or sees them.
func secrets(stack awscdk.Stack, o Options, p *parameters) {
	secret := func(id, what, key string, value any) awscdk.CfnResource {
		return keep(resource(stack, id, "AWS::SecretsManager::Secret", object{"Description": what, key: value}))
	}
	letters := func(n int) object { return object{"PasswordLength": n, "ExcludePunctuation": true} }
	digits := object{"PasswordLength": 64, "ExcludePunctuation": true, "ExcludeUppercase": true, "ExcludeCharacters": "ghijklmnopqrstuvwxyz", "RequireEachIncludedType": false}
	const generated, composed = "GenerateSecretString", "SecretString"

	only(p.own("ClusterSecret"), secret("ClusterSecret", "Key of the network of cluster peers", generated, digits))
	only(p.own("Seed"), secret("Seed", "Identities of all cluster peers follow from it", generated, letters(64)))
	secret("AdminPassword", "Password of user admin of the REST API", generated, letters(32))
	// CloudFormation puts the value in, in the account; no template has it.
	secret("AdminCredentials", "The same, as cluster-aws takes it", composed, sub("admin:{{resolve:secretsmanager:${AdminPassword}}}"))
	if o.Private {
		only(p.own("SwarmKey"), secret("SwarmKeyDigits", "Key of the private IPFS network", generated, digits))
		only(p.own("SwarmKey"), secret("SwarmKey", "The same, as a file swarm.key", composed, sub("/key/swarm/psk/1.0.0/\n/base16/\n{{resolve:secretsmanager:${SwarmKeyDigits}}}")))
	}
}

// secretsOf are the settings of a container that are secret.
func secretsOf(o Options, p *parameters, container string) list {
	from := func(setting, id string) object {
		if slices.Contains(keptSecrets(o), id) {
			return object{"Name": setting, "ValueFrom": choose(p.own(id), ref(id), ref("Existing"+id))}
		}
		return object{"Name": setting, "ValueFrom": ref(id)}
	}
	switch {
	case container == clusterContainer:
		return list{from("CLUSTER_SECRET", "ClusterSecret"), from("CLUSTER_SEED", "Seed"), from("CLUSTER_RESTAPI_BASICAUTHCREDENTIALS", "AdminCredentials")}
	case o.Private:
		return list{from("IPFS_SWARM_KEY", "SwarmKey")}
	}
	return nil
}

func tcp(port int) object { return object{"ContainerPort": port} }

func mount(volume, path string) object {
	return object{"SourceVolume": volume, "ContainerPath": path}
}

// maybe is a setting that is there on a condition.
type maybe struct {
	when  awscdk.CfnCondition
	value any
}

// environment is sorted, so that a template does not change by itself.
func environment(settings object) list {
	out := list{}
	for _, name := range sorted(settings) {
		if m, ok := settings[name].(maybe); ok {
			out = append(out, choose(m.when, object{"Name": name, "Value": m.value}, nil))
			continue
		}
		out = append(out, object{"Name": name, "Value": settings[name]})
	}
	return out
}
