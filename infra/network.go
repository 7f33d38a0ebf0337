package infra

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/jsii-runtime-go"
)

// Ports. Those of the balancer are neighbours, because CloudFront's prefix list
// counts as 55 of the 60 rules of a security group: one rule must open both.
const (
	swarmPort         = 4001
	gatewayPort       = 8080
	apiPort           = 9094
	clusterPort       = 9096
	nodeHealthPort    = 8099
	clusterHealthPort = 9098
	edgeGatewayPort   = 8080
	edgeAPIPort       = 8081
	nfsPort           = 2049
)

// network is a VPC over three zones and who may talk to whom in it.
type network struct {
	vpc     awsec2.Vpc
	zones   [3]*string
	private []awsec2.ISubnet // of the balancer and of mount targets
	tasks   []awsec2.ISubnet // zone by zone
	egress  string

	balancerGroup, taskGroup, storageGroup awsec2.SecurityGroup
}

func newNetwork(stack awscdk.Stack, o Options, p *parameters) *network {
	n := &network{egress: o.Egress}
	// The region is not known here, so its zones are not either: MaxAzs would make
	// two of them. Which three is a parameter.
	for i := range n.zones {
		n.zones[i] = awscdk.Fn_Select(p.zones[i].ValueAsNumber(), awscdk.Fn_GetAzs(nil))
	}
	inner, gateways := awsec2.SubnetType_PRIVATE_ISOLATED, 0.0
	if o.Egress == "nat" {
		inner, gateways = awsec2.SubnetType_PRIVATE_WITH_EGRESS, 3
	}
	n.vpc = awsec2.NewVpc(stack, jsii.String("Vpc"), &awsec2.VpcProps{
		IpAddresses:       awsec2.IpAddresses_Cidr(jsii.String("10.0.0.0/16")),
		AvailabilityZones: jsii.Strings(*n.zones[0], *n.zones[1], *n.zones[2]),
		NatGateways:       &gateways,
		// Emptying the default group is done by a Lambda function, which is an asset.
		RestrictDefaultSecurityGroup: jsii.Bool(false),
		SubnetConfiguration: &[]*awsec2.SubnetConfiguration{
			{Name: jsii.String("Public"), SubnetType: awsec2.SubnetType_PUBLIC, CidrMask: jsii.Number(20), MapPublicIpOnLaunch: jsii.Bool(false)},
			{Name: jsii.String("Private"), SubnetType: inner, CidrMask: jsii.Number(20)},
		},
	})
	// Blocks go to S3 beside NAT gateways and the internet, free of charge.
	n.vpc.AddGatewayEndpoint(jsii.String("S3"), &awsec2.GatewayVpcEndpointOptions{Service: awsec2.GatewayVpcEndpointAwsService_S3()})
	n.private = *n.vpc.SelectSubnets(&awsec2.SubnetSelection{SubnetGroupName: jsii.String("Private")}).Subnets
	n.tasks = n.private
	if o.Egress == "public" {
		n.tasks = *n.vpc.PublicSubnets()
	}
	n.groups(stack, o, p)
	return n
}

// groups: CloudFront → balancer → tasks → storage; the world → swarm port.
func (n *network) groups(stack awscdk.Stack, o Options, p *parameters) {
	group := func(id, what string, out bool) awsec2.SecurityGroup {
		return awsec2.NewSecurityGroup(stack, jsii.String(id), &awsec2.SecurityGroupProps{Vpc: n.vpc, Description: jsii.String(what), AllowAllOutbound: &out})
	}
	n.balancerGroup = group("BalancerGroup", "Balancer: from CloudFront, to tasks", false)
	n.taskGroup = group("TaskGroup", "Tasks: swarm from anywhere, the rest from balancer and peers", true)
	n.storageGroup = group("StorageGroup", "EFS: from tasks", false)

	n.balancerGroup.AddIngressRule(awsec2.Peer_PrefixList(cloudFrontPrefixList(stack, p)), awsec2.Port_TcpRange(jsii.Number(edgeGatewayPort), jsii.Number(edgeAPIPort)), jsii.String("CloudFront"), nil)
	for _, port := range []float64{gatewayPort, apiPort, nodeHealthPort, clusterHealthPort} {
		n.taskGroup.AddIngressRule(n.balancerGroup, awsec2.Port_Tcp(&port), jsii.String("balancer"), nil)
		n.balancerGroup.AddEgressRule(n.taskGroup, awsec2.Port_Tcp(&port), jsii.String("tasks"), nil)
	}
	n.taskGroup.AddIngressRule(n.taskGroup, awsec2.Port_Tcp(jsii.Number(clusterPort)), jsii.String("cluster peers"), nil)
	n.taskGroup.AddIngressRule(n.taskGroup, awsec2.Port_Tcp(jsii.Number(swarmPort)), jsii.String("nodes"), nil)
	if !o.Private {
		n.taskGroup.AddIngressRule(awsec2.Peer_AnyIpv4(), awsec2.Port_Tcp(jsii.Number(swarmPort)), jsii.String("IPFS swarm"), nil)
		n.taskGroup.AddIngressRule(awsec2.Peer_AnyIpv4(), awsec2.Port_Udp(jsii.Number(swarmPort)), jsii.String("IPFS swarm, QUIC"), nil)
	}
	n.storageGroup.AddIngressRule(n.taskGroup, awsec2.Port_Tcp(jsii.Number(nfsPort)), jsii.String("NFS"), nil)
}

// cloudFrontPrefixList is the list of addresses from which CloudFront speaks to
// origins. Every region has its own ID for it, and CloudFormation cannot look it up.
func cloudFrontPrefixList(stack awscdk.Stack, p *parameters) *string {
	known := map[string]*map[string]any{}
	for region, id := range map[string]string{
		"ap-northeast-1": "pl-58a04531", "ap-northeast-2": "pl-22a6434b", "ap-northeast-3": "pl-31a14458", "ap-south-1": "pl-9aa247f3",
		"ap-southeast-1": "pl-31a34658", "ap-southeast-2": "pl-b8a742d1", "ca-central-1": "pl-38a64351", "eu-central-1": "pl-a3a144ca",
		"eu-north-1": "pl-fab65393", "eu-west-1": "pl-4fa04526", "eu-west-2": "pl-93a247fa", "eu-west-3": "pl-75b1541c",
		"sa-east-1": "pl-5da64334", "us-east-1": "pl-3b927c52", "us-east-2": "pl-b6a144df", "us-west-1": "pl-4ea04527", "us-west-2": "pl-82a045eb",
	} {
		known[region] = &map[string]any{"Id": id}
	}
	m := awscdk.NewCfnMapping(stack, jsii.String("PrefixLists"), &awscdk.CfnMappingProps{Mapping: &known})
	return chooseText(p.given(p.prefixList, ""), p.prefixList.ValueAsString(), m.FindInMap(awscdk.Aws_REGION(), jsii.String("Id"), nil))
}
