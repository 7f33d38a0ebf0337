package infra

import (
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsefs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsservicediscovery"
	"github.com/aws/jsii-runtime-go"
)

const (
	namespace  = "ipfs.internal" // of the VPC; every node is a name in it
	repoPath   = "/data/ipfs"
	pinsetPath = "/data/ipfs-cluster"
	cachePath  = "/data/cache" // on the task's own disk

	nodeContainer    = "ipfs"
	clusterContainer = "cluster"
)

// nodes are the ECS services, one for each node.
type nodes struct {
	services []awsecs.FargateService
	secrets  *secrets
	cluster  awsecs.Cluster
	logs     [2]awslogs.LogGroup
}

func newNodes(stack awscdk.Stack, o Options, p *parameters, net *network, store *storage) *nodes {
	n := &nodes{secrets: newSecrets(stack, o)}
	n.cluster = awsecs.NewCluster(stack, jsii.String("Cluster"), &awsecs.ClusterProps{Vpc: net.vpc})
	dns := awsservicediscovery.NewPrivateDnsNamespace(stack, jsii.String("Namespace"), &awsservicediscovery.PrivateDnsNamespaceProps{Name: jsii.String(namespace), Vpc: net.vpc})
	for i, id := range []string{"NodeLogs", "ClusterLogs"} {
		n.logs[i] = awslogs.NewLogGroup(stack, jsii.String(id), &awslogs.LogGroupProps{RemovalPolicy: awscdk.RemovalPolicy_RETAIN})
		n.logs[i].Node().DefaultChild().(awslogs.CfnLogGroup).AddPropertyOverride(jsii.String("RetentionInDays"), ref(p.logDays))
	}
	sizes := sizeMapping(stack, p)
	copies := awscdk.NewCfnMapping(stack, jsii.String("CopiesOf"), &awscdk.CfnMappingProps{Mapping: &map[string]*map[string]any{
		// Least, most. An add fails if fewer than the least get it.
		"all": {"Min": "-1", "Max": "-1"}, "1": {"Min": "1", "Max": "1"}, "2": {"Min": "1", "Max": "2"}, "3": {"Min": "2", "Max": "3"},
	}})
	execution := executionRole(stack)
	task := taskMaker{stack: stack, o: o, p: p, net: net, store: store, n: n, sizes: sizes, copies: copies, execution: execution, peers: peers(o)}
	for _, node := range o.NamedNodes() {
		definition := task.definition(node)
		service := awsecs.NewFargateService(stack, jsii.String(node.ID), &awsecs.FargateServiceProps{
			Cluster:        n.cluster,
			TaskDefinition: definition,
			DesiredCount:   p.running.ValueAsNumber(),
			// Stop before start: two tasks cannot have one repo.
			MinHealthyPercent:           jsii.Number(0),
			MaxHealthyPercent:           jsii.Number(100),
			AvailabilityZoneRebalancing: awsecs.AvailabilityZoneRebalancing_DISABLED,
			CircuitBreaker:              &awsecs.DeploymentCircuitBreaker{Rollback: jsii.Bool(true)},
			// A node with a large bucket makes its index anew first.
			HealthCheckGracePeriod: seconds(900),
			AssignPublicIp:         jsii.Bool(o.Egress == "public"),
			VpcSubnets:             &awsec2.SubnetSelection{Subnets: &[]awsec2.ISubnet{net.tasks[node.Zone]}},
			SecurityGroups:         &[]awsec2.ISecurityGroup{net.taskGroup},
			PlatformVersion:        awsecs.FargatePlatformVersion_VERSION1_4,
			PropagateTags:          awsecs.PropagatedTagSource_SERVICE,
			CloudMapOptions: &awsecs.CloudMapOptions{
				CloudMapNamespace: dns, Name: jsii.String(node.Name), DnsRecordType: awsservicediscovery.DnsRecordType_A, DnsTtl: seconds(10),
			},
		})
		service.Node().AddDependency(store.folders[node.Name].mount)
		n.services = append(n.services, service)
	}
	return n
}

// taskMaker makes the task definitions of all nodes alike.
type taskMaker struct {
	stack     awscdk.Stack
	o         Options
	p         *parameters
	net       *network
	store     *storage
	n         *nodes
	sizes     func(what string) *float64
	copies    awscdk.CfnMapping
	execution awsiam.Role
	peers     string
}

func (m taskMaker) definition(node Named) awsecs.FargateTaskDefinition {
	role := awsiam.NewRole(m.stack, jsii.String(node.ID+"Role"), &awsiam.RoleProps{AssumedBy: tasks()})
	m.store.admit(role, node)
	architecture := awsecs.CpuArchitecture_ARM64()
	if m.o.X86 {
		architecture = awsecs.CpuArchitecture_X86_64()
	}
	d := awsecs.NewFargateTaskDefinition(m.stack, jsii.String(node.ID+"Task"), &awsecs.FargateTaskDefinitionProps{
		Cpu: m.sizes("Cpu"), MemoryLimitMiB: m.sizes("Memory"),
		ExecutionRole: m.execution, TaskRole: role,
		RuntimePlatform: &awsecs.RuntimePlatform{CpuArchitecture: architecture, OperatingSystemFamily: awsecs.OperatingSystemFamily_LINUX()},
	})
	f := m.store.folders[node.Name]
	onEFS := func(name string, point awsefs.CfnAccessPoint) {
		d.AddVolume(&awsecs.Volume{Name: &name, EfsVolumeConfiguration: &awsecs.EfsVolumeConfiguration{
			FileSystemId: f.system.AttrFileSystemId(), TransitEncryption: jsii.String("ENABLED"),
			AuthorizationConfig: &awsecs.AuthorizationConfig{AccessPointId: point.AttrAccessPointId(), Iam: jsii.String("ENABLED")},
		}})
	}
	onEFS("repo", f.repo)
	onEFS("pinset", f.pinset)
	d.AddVolume(&awsecs.Volume{Name: jsii.String("cache")})

	ipfs := d.AddContainer(jsii.String(nodeContainer), m.container(node.ID+"IpfsLinux", "ipfs-aws", m.image(m.p.nodeImage, "ipfs-aws"), m.sizes("Node"), m.n.logs[0], m.nodeSettings(node), m.nodeSecrets()))
	ipfs.AddPortMappings(port(gatewayPort, awsecs.Protocol_TCP), port(nodeHealthPort, awsecs.Protocol_TCP), port(swarmPort, awsecs.Protocol_TCP))
	if !m.o.Private {
		ipfs.AddPortMappings(port(swarmPort, awsecs.Protocol_UDP))
	}
	ipfs.AddMountPoints(mount("repo", repoPath), mount("cache", cachePath))

	sidecar := d.AddContainer(jsii.String(clusterContainer), m.container(node.ID+"ClusterLinux", "cluster-aws", m.image(m.p.clusterImage, "cluster-aws"), m.sizes("Cluster"), m.n.logs[1], m.clusterSettings(node), m.clusterSecrets()))
	sidecar.AddPortMappings(port(apiPort, awsecs.Protocol_TCP), port(clusterPort, awsecs.Protocol_TCP), port(clusterHealthPort, awsecs.Protocol_TCP))
	sidecar.AddMountPoints(mount("pinset", pinsetPath))
	sidecar.AddContainerDependencies(&awsecs.ContainerDependency{Container: ipfs, Condition: awsecs.ContainerDependencyCondition_HEALTHY})
	return d
}

// container is what both have in common. Health is whether the process answers:
// whether it is ready is what the balancer asks, and a node that waits for its
// storage is not helped by being killed.
func (m taskMaker) container(linuxID, program string, image *string, memory *float64, logs awslogs.LogGroup, settings map[string]*string, secret map[string]awsecs.Secret) *awsecs.ContainerDefinitionOptions {
	linux := awsecs.NewLinuxParameters(m.stack, jsii.String(linuxID), nil)
	linux.DropCapabilities(awsecs.Capability_ALL)
	return &awsecs.ContainerDefinitionOptions{
		Image:                  awsecs.ContainerImage_FromRegistry(image, nil),
		MemoryLimitMiB:         memory,
		Essential:              jsii.Bool(true),
		ReadonlyRootFilesystem: jsii.Bool(true),
		LinuxParameters:        linux,
		StopTimeout:            seconds(120),
		Environment:            &settings,
		Secrets:                &secret,
		Ulimits:                &[]*awsecs.Ulimit{{Name: awsecs.UlimitName_NOFILE, SoftLimit: jsii.Number(65535), HardLimit: jsii.Number(65535)}},
		HealthCheck: &awsecs.HealthCheck{
			Command:  jsii.Strings("CMD", program, "health", "--live"),
			Interval: seconds(10), Timeout: seconds(5), Retries: jsii.Number(10), StartPeriod: seconds(300),
		},
		Logging: awsecs.LogDriver_AwsLogs(&awsecs.AwsLogDriverProps{LogGroup: logs, StreamPrefix: jsii.String("task"), Mode: awsecs.AwsLogDriverMode_NON_BLOCKING}),
	}
}

// nodeSettings are docs/settings.md's.
func (m taskMaker) nodeSettings(node Named) map[string]*string {
	swarm := "/ip4/0.0.0.0/tcp/4001"
	if !m.o.Private { // a private network has no QUIC
		swarm += ",/ip4/0.0.0.0/udp/4001/quic-v1"
	}
	env := map[string]*string{
		"IPFS_PATH":                          jsii.String(repoPath),
		"IPFS_BLOCKSTORE":                    jsii.String("efs"),
		"IPFS_HEALTH_ADDRESS":                jsii.String("0.0.0.0:" + strconv.Itoa(nodeHealthPort)),
		"IPFS_WAIT_REPO_LOCK":                jsii.String("5m"),
		"IPFS_LOGGING_FMT":                   jsii.String("json"),
		"IPFS_CONFIG_Addresses_Swarm":        jsii.String(swarm),
		"IPFS_CONFIG_Gateway_NoFetch":        ref(m.p.gatewayNoFetch),
		"IPFS_CONFIG_Discovery_MDNS_Enabled": jsii.String("false"),
	}
	if m.o.Storage == S3 {
		env["IPFS_BLOCKSTORE"] = jsii.String("s3")
		env["IPFS_S3_BUCKET"] = m.store.bucket.BucketName()
		env["IPFS_S3_REGION"] = awscdk.Aws_REGION()
		env["IPFS_S3_PREFIX"] = jsii.String(node.Name)
		// The journal stays in the repo, on EFS. Index and cache are made anew.
		env["IPFS_S3_INDEX_PATH"] = jsii.String(cachePath + "/index")
		env["IPFS_S3_CACHE_PATH"] = jsii.String(cachePath + "/blocks")
		env["IPFS_S3_CACHE_SIZE"] = ref(m.p.cacheSize)
	} else {
		env["IPFS_EFS_CACHE_PATH"] = jsii.String(cachePath + "/blocks")
		env["IPFS_EFS_CACHE_SIZE"] = ref(m.p.cacheSize)
	}
	return env
}

func (m taskMaker) nodeSecrets() map[string]awsecs.Secret {
	if m.n.secrets.swarmKey == nil {
		return nil
	}
	return map[string]awsecs.Secret{"IPFS_SWARM_KEY": secret(m.n.secrets.swarmKey)}
}

// clusterSettings are docs/cluster.md's. The RPC of the node is on loopback,
// which the containers of a task share.
func (m taskMaker) clusterSettings(node Named) map[string]*string {
	all := jsii.String(*ref(m.p.copies))
	return map[string]*string{
		"IPFS_CLUSTER_PATH":                      jsii.String(pinsetPath),
		"CLUSTER_PEERNAME":                       jsii.String(node.Name),
		"CLUSTER_ZONE":                           m.net.zones[node.Zone],
		"CLUSTER_PEERS":                          jsii.String(m.peers),
		"CLUSTER_HEALTH_ADDRESS":                 jsii.String("0.0.0.0:" + strconv.Itoa(clusterHealthPort)),
		"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS": jsii.String("/ip4/0.0.0.0/tcp/" + strconv.Itoa(apiPort)),
		"CLUSTER_REPLICATIONFACTORMIN":           m.copies.FindInMap(all, jsii.String("Min"), nil),
		"CLUSTER_REPLICATIONFACTORMAX":           m.copies.FindInMap(all, jsii.String("Max"), nil),
		"GOLOG_LOG_FMT":                          jsii.String("json"),
	}
}

func (m taskMaker) clusterSecrets() map[string]awsecs.Secret {
	s := m.n.secrets
	return map[string]awsecs.Secret{
		"CLUSTER_SECRET":                       secret(s.cluster),
		"CLUSTER_SEED":                         secret(s.seed),
		"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS": secret(s.credentials),
	}
}

// image is what the parameter says, or that of this account's own registry.
func (m taskMaker) image(p awscdk.CfnParameter, repository string) *string {
	own := awscdk.Fn_Sub(jsii.String("${AWS::AccountId}.dkr.ecr.${AWS::Region}.${AWS::URLSuffix}/"+repository+":${ImageTag}"), nil)
	return chooseText(m.p.given(p, ""), p.ValueAsString(), own)
}

// peers is the setting that tells each peer of all.
func peers(o Options) string {
	var all []string
	for _, n := range o.NamedNodes() {
		all = append(all, n.Name+"=/dns4/"+n.Name+"."+namespace+"/tcp/"+strconv.Itoa(clusterPort))
	}
	return strings.Join(all, ",")
}

// executionRole is what ECS itself needs to start a task: images, logs, secrets.
// The last two are granted where they are used.
func executionRole(stack awscdk.Stack) awsiam.Role {
	role := awsiam.NewRole(stack, jsii.String("ExecutionRole"), &awsiam.RoleProps{AssumedBy: tasks()})
	arn := func(repository string) *string {
		return awscdk.Fn_Sub(jsii.String("arn:${AWS::Partition}:ecr:${AWS::Region}:${AWS::AccountId}:repository/"+repository), nil)
	}
	role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions:   jsii.Strings("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"),
		Resources: jsii.Strings(*arn("ipfs-aws"), *arn("cluster-aws")),
	}))
	role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions: jsii.Strings("ecr:GetAuthorizationToken"), Resources: jsii.Strings("*"), // it knows no resource
	}))
	return role
}

// tasks is ECS on behalf of a task of this account, and nobody else's.
func tasks() awsiam.IPrincipal {
	return awsiam.NewServicePrincipal(jsii.String("ecs-tasks.amazonaws.com"), &awsiam.ServicePrincipalOpts{Conditions: &map[string]any{
		"StringEquals": map[string]any{"aws:SourceAccount": awscdk.Aws_ACCOUNT_ID()},
	}})
}

// secrets are generated in the account; nobody types or sees them.
type secrets struct {
	cluster, seed, password, credentials awssecretsmanager.Secret
	swarmKey                             awssecretsmanager.Secret // nil in the public network
}

const hexadecimal = "ghijklmnopqrstuvwxyz" // what to leave out of lower-case letters and digits

func newSecrets(stack awscdk.Stack, o Options) *secrets {
	keep := func(id, what string, props awssecretsmanager.SecretProps) awssecretsmanager.Secret {
		props.Description, props.RemovalPolicy = &what, awscdk.RemovalPolicy_RETAIN
		return awssecretsmanager.NewSecret(stack, &id, &props)
	}
	generated := func(id, what string, length float64, without string) awssecretsmanager.Secret {
		return keep(id, what, awssecretsmanager.SecretProps{GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
			PasswordLength: &length, ExcludePunctuation: jsii.Bool(true), ExcludeUppercase: jsii.Bool(without != ""), ExcludeCharacters: &without, RequireEachIncludedType: jsii.Bool(without == ""),
		}})
	}
	// composed is resolved by CloudFormation in the account, and is in no template.
	composed := func(id, what, before string, of awssecretsmanager.Secret) awssecretsmanager.Secret {
		return keep(id, what, awssecretsmanager.SecretProps{
			SecretStringValue: awscdk.SecretValue_UnsafePlainText(jsii.String(before + *of.SecretValue().UnsafeUnwrap())),
		})
	}
	s := &secrets{
		cluster:  generated("ClusterSecret", "Key of the network of cluster peers", 64, hexadecimal),
		seed:     generated("Seed", "Identities of all cluster peers follow from it", 64, ""),
		password: generated("AdminPassword", "Password of user admin of the REST API", 32, ""),
	}
	s.credentials = composed("AdminCredentials", "The same, as cluster-aws takes it", "admin:", s.password)
	if o.Private {
		key := generated("SwarmKeyDigits", "Key of the private IPFS network", 64, hexadecimal)
		s.swarmKey = composed("SwarmKey", "The same, as a file swarm.key", "/key/swarm/psk/1.0.0/\n/base16/\n", key)
	}
	return s
}

func secret(s awssecretsmanager.Secret) awsecs.Secret {
	return awsecs.Secret_FromSecretsManager(s, nil)
}

// sizeMapping puts sizes into the template; the function looks one figure up.
func sizeMapping(stack awscdk.Stack, p *parameters) func(string) *float64 {
	all := map[string]*map[string]any{}
	for _, s := range sizes {
		all[s.Name] = &map[string]any{"Cpu": s.CPU, "Memory": s.Memory, "Node": s.Node, "Cluster": s.Cluster}
	}
	m := awscdk.NewCfnMapping(stack, jsii.String("Sizes"), &awscdk.CfnMappingProps{Mapping: &all})
	return func(what string) *float64 {
		return awscdk.Token_AsNumber(m.FindInMap(ref(p.size), &what, nil))
	}
}

func port(n float64, protocol awsecs.Protocol) *awsecs.PortMapping {
	return &awsecs.PortMapping{ContainerPort: &n, Protocol: protocol}
}

func mount(volume, path string) *awsecs.MountPoint {
	return &awsecs.MountPoint{SourceVolume: &volume, ContainerPath: &path, ReadOnly: jsii.Bool(false)}
}
