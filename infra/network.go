package infra

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
)

// Ports. Those of the balancer are neighbours, because CloudFront's prefix list
// counts as 55 of the 60 rules of a security group: one rule must open both.
const (
	swarmPort         = 4001
	gatewayPort       = 8080
	apiPort           = 9094
	pinningPort       = 9097
	clusterPort       = 9096
	nodeHealthPort    = 8099
	clusterHealthPort = 9098
	edgeGatewayPort   = 8080
	edgeAPIPort       = 8081
	edgePinningPort   = 8082
	nfsPort           = 2049
)

const network = "10.0.0.0/16"

var letters = [3]string{"A", "B", "C"}

// zone is one of the three. Neither account nor region are known here, so its name is a parameter. An
// index into Fn::GetAZs would not do: which zones an account has, and in which order, may change,
// and every later update would then want to replace the subnets.
func zone(i int) object { return ref("Zone" + letters[i]) }

// net is where everything is: a network of the stack's own, or one that exists.
type net struct {
	addresses any
	inner     [3]object   // subnets of the balancer and of EFS, by zone
	tasks     [3]object   // of the tasks
	internet  []string    // what must be there before anything has to do with the internet
	ready     [3][]string // what a task needs to reach the internet, and S3 past it
}

// newNetwork makes a VPC with a public and a private subnet in each zone, unless there is one. The
// balancer and EFS are in the private ones, tasks where egress says.
//
// What waits for what: an address needs the gateway attached to the VPC, a NAT gateway a public subnet
// that has its route, a task its own route. Deletion goes the other way round, so that nothing
// has a public address any more when the internet gateway goes.
func newNetwork(stack awscdk.Stack, o Options, p *parameters) net {
	if o.Existing {
		n := net{addresses: ref("VpcAddresses")}
		for i, letter := range letters {
			n.tasks[i], n.inner[i] = ref("TaskSubnet"+letter), ref("InnerSubnet"+letter)
		}
		groups(stack, o, p, n)
		return n
	}
	n, kind := net{addresses: network, internet: []string{"InternetOfVpc"}}, "Public"
	if o.Egress == "nat" {
		kind = "Private"
	}
	resource(stack, "Vpc", "AWS::EC2::VPC", object{"CidrBlock": network, "EnableDnsHostnames": true, "EnableDnsSupport": true})
	resource(stack, "Internet", "AWS::EC2::InternetGateway", object{})
	resource(stack, "InternetOfVpc", "AWS::EC2::VPCGatewayAttachment", object{"VpcId": ref("Vpc"), "InternetGatewayId": ref("Internet")})

	table := func(id string, target object) object {
		resource(stack, id, "AWS::EC2::RouteTable", object{"VpcId": ref("Vpc")})
		if target != nil {
			target["RouteTableId"], target["DestinationCidrBlock"] = ref(id), "0.0.0.0/0"
			after(resource(stack, id+"Out", "AWS::EC2::Route", target), "InternetOfVpc")
		}
		return ref(id)
	}
	subnet := func(kind string, i, block int, routes object) {
		id := kind + letters[i]
		resource(stack, id, "AWS::EC2::Subnet", object{
			"VpcId": ref("Vpc"), "AvailabilityZone": zone(i), "CidrBlock": fmt.Sprintf("10.0.%d.0/20", 16*block),
		})
		resource(stack, id+"Routes", "AWS::EC2::SubnetRouteTableAssociation", object{"SubnetId": ref(id), "RouteTableId": routes})
	}
	public := table("PublicRoutes", object{"GatewayId": ref("Internet")})
	tables, private := list{public}, object(nil)
	for i, letter := range letters {
		subnet("Public", i, i, public)
		out := "PublicRoutesOut"
		switch {
		case o.Egress == "nat": // a gateway in each zone, so that none needs another
			address := "NatAddress" + letter
			after(resource(stack, address, "AWS::EC2::EIP", object{"Domain": "vpc"}), "InternetOfVpc")
			after(resource(stack, "Nat"+letter, "AWS::EC2::NatGateway", object{"SubnetId": ref("Public" + letter), "AllocationId": attribute(address, "AllocationId")}),
				"PublicRoutesOut", "Public"+letter+"Routes")
			private = table("PrivateRoutes"+letter, object{"NatGatewayId": ref("Nat" + letter)})
			tables = append(tables, private)
			out = "PrivateRoutes" + letter + "Out"
		case i == 0:
			private = table("PrivateRoutes", nil)
			tables = append(tables, private)
		}
		subnet("Private", i, 3+i, private)
		n.tasks[i], n.inner[i] = ref(kind+letter), ref("Private"+letter)
		n.ready[i] = []string{out, kind + letter + "Routes", "S3Endpoint"}
	}
	// Blocks go to S3 past NAT gateways and the internet, free of charge.
	resource(stack, "S3Endpoint", "AWS::EC2::VPCEndpoint", object{
		"VpcId": ref("Vpc"), "ServiceName": sub("com.amazonaws.${AWS::Region}.s3"), "RouteTableIds": tables, "VpcEndpointType": "Gateway",
	})
	groups(stack, o, p, n)
	return n
}

// groups: CloudFront → balancer → tasks → storage; the world → swarm port.
func groups(stack awscdk.Stack, o Options, p *parameters, n net) {
	rule := func(protocol string, from, to int, peer string, value any) object {
		return object{"IpProtocol": protocol, "FromPort": from, "ToPort": to, peer: value}
	}
	group := func(id, what string, in list, out ...any) {
		properties := object{"VpcId": ref("Vpc"), "GroupDescription": what, "SecurityGroupIngress": in}
		if len(out) > 0 { // else anything may go out
			properties["SecurityGroupEgress"] = out
		}
		resource(stack, id, "AWS::EC2::SecurityGroup", properties)
	}
	group("BalancerGroup", "From CloudFront, to tasks",
		list{rule("tcp", edgeGatewayPort, edgePinningPort, "SourcePrefixListId", cloudFrontPrefixList(stack, p))},
		rule("tcp", gatewayPort, clusterHealthPort, "CidrIp", n.addresses))

	in := list{}
	for _, port := range []int{gatewayPort, nodeHealthPort, apiPort, pinningPort, clusterHealthPort} {
		in = append(in, rule("tcp", port, port, "SourceSecurityGroupId", ref("BalancerGroup")))
	}
	swarm := n.addresses // a private swarm is within the VPC
	if !o.Private {
		swarm = "0.0.0.0/0"
		in = append(in, rule("udp", swarmPort, swarmPort, "CidrIp", swarm))
	}
	in = append(in, rule("tcp", swarmPort, swarmPort, "CidrIp", swarm))
	group("TaskGroup", "Swarm, and what balancer and peers need", in)
	// Apart from the group, since a group cannot name itself.
	peers := rule("tcp", clusterPort, clusterPort, "SourceSecurityGroupId", ref("TaskGroup"))
	peers["GroupId"] = ref("TaskGroup")
	resource(stack, "TaskGroupPeers", "AWS::EC2::SecurityGroupIngress", peers)

	group("StorageGroup", "EFS, from tasks", list{rule("tcp", nfsPort, nfsPort, "SourceSecurityGroupId", ref("TaskGroup"))})
}

// unfitRegion has CloudFront's VPC origins in two zones and EFS One Zone in two, of which one is the same.
const unfitRegion = "us-west-1"

// prefixLists are the regions' IDs of the list of addresses from which CloudFront speaks to
// origins. Every region has its own, and CloudFormation cannot look it up.
var prefixLists = map[string]string{
	"ap-northeast-1": "pl-58a04531", "ap-northeast-2": "pl-22a6434b", "ap-northeast-3": "pl-31a14458", "ap-south-1": "pl-9aa247f3",
	"ap-southeast-1": "pl-31a34658", "ap-southeast-2": "pl-b8a742d1", "ca-central-1": "pl-38a64351", "eu-central-1": "pl-a3a144ca",
	"eu-north-1": "pl-fab65393", "eu-west-1": "pl-4fa04526", "eu-west-2": "pl-93a247fa", "eu-west-3": "pl-75b1541c",
	"sa-east-1": "pl-5da64334", "us-east-1": "pl-3b927c52", "us-east-2": "pl-b6a144df", "us-west-2": "pl-82a045eb",
}

// otherRegions have every type of the templates; the user gives the prefix list.
var otherRegions = []string{"af-south-1", "ap-east-1", "ap-south-2", "ap-southeast-3", "ap-southeast-4", "ca-west-1", "eu-central-2",
	"eu-south-1", "eu-south-2", "il-central-1", "me-central-1", "me-south-1", "mx-central-1"}

// noPrefixList is in the mapping where a look-up must not fail though its result is not used: the rule
// PrefixListIsKnown, or RegionHasZones, refuses a launch that would use it.
const noPrefixList = "pl-00000000"

func cloudFrontPrefixList(stack awscdk.Stack, p *parameters) object {
	known := map[string]*map[string]any{unfitRegion: {"Id": noPrefixList}}
	for _, region := range otherRegions {
		known[region] = &map[string]any{"Id": noPrefixList}
	}
	for region, id := range prefixLists {
		known[region] = &map[string]any{"Id": id}
	}
	awscdk.NewCfnMapping(stack, jsii.String("PrefixLists"), &awscdk.CfnMappingProps{Mapping: &known})
	return choose(p.given("PrefixList", ""), ref("PrefixList"), look("PrefixLists", ref("AWS::Region"), "Id"))
}
