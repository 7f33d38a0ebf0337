package infra

import (
	_ "embed"
	"fmt"
	"regexp"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
)

// door is one of the two ways in.
type door struct {
	id, what               string
	listen, port, health   int // of the balancer, of the container, of its health
	container              string
	behavior, distribution object
	made                   awscdk.CfnCondition // nil: always
}

// newEdge makes the balancer and, for each door, a listener, a target group, a
// VPC origin and a distribution.
func newEdge(stack awscdk.Stack, p *parameters, n net) []door {
	resource(stack, "Balancer", "AWS::ElasticLoadBalancingV2::LoadBalancer", object{
		"Type": "application", "Scheme": "internal", "SecurityGroups": list{ref("BalancerGroup")},
		"Subnets": list{n.inner[0], n.inner[1], n.inner[2]},
		"LoadBalancerAttributes": list{
			object{"Key": "idle_timeout.timeout_seconds", "Value": "150"}, // above what CloudFront waits
			object{"Key": "routing.http.drop_invalid_header_fields.enabled", "Value": "true"},
		},
	})
	doors := []door{
		{id: "Gateway", what: "gateway", listen: edgeGatewayPort, port: gatewayPort, health: nodeHealthPort, container: nodeContainer,
			behavior: gatewayBehavior(stack),
			// What is not found now may be a second later.
			distribution: object{"CustomErrorResponses": list{forget(404), forget(504)}, "WebACLId": ref("GatewayWebAclArn")}},
		{id: "Api", what: "REST API", listen: edgeAPIPort, port: apiPort, health: clusterHealthPort, container: clusterContainer,
			// HTTPS only: who is redirected has sent the password in the clear already.
			behavior: object{
				"ViewerProtocolPolicy": "https-only", "Compress": false, "CachePolicyId": cachingDisabled, "OriginRequestPolicyId": allViewer,
				"AllowedMethods": list{"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"},
			},
			distribution: object{"WebACLId": ref("ApiWebAclArn")}},
	}
	pinning := pinningDoor(stack, p)
	doors[1].distribution["CacheBehaviors"] = choose(pinning.made, list{pinning.behavior}, nil)
	for _, d := range append(doors, pinning) {
		behind(stack, d, n)
	}
	distribution(stack, p, doors[0])
	distribution(stack, p, doors[1], pinning)
	output(stack, "GatewayUrl", "Where consumers read: /ipfs/CID", sub("https://${GatewayDistribution.DomainName}"))
	output(stack, "ApiUrl", "Where administrators pin", sub("https://${ApiDistribution.DomainName}"))
	url := awscdk.NewCfnOutput(stack, jsii.String("PinningUrl"), &awscdk.CfnOutputProps{
		Description: jsii.String("Of the pinning service API"), Value: awscdk.Token_AsString(sub("https://${ApiDistribution.DomainName}/psa"), nil)})
	url.SetCondition(pinning.made)
	output(stack, "AdminPasswordArn", "The secret with the password of user admin", ref("AdminPassword"))
	return doors
}

// pinningDoor is a path of the API's distribution, since clients of the pinning service API ask for
// /pins, which the REST API has too. It is made on request.
func pinningDoor(stack awscdk.Stack, p *parameters) door {
	on := p.when("HasPinningApi", equal("PinningApi", "on"))
	only(on, resource(stack, "PinningPath", "AWS::CloudFront::Function", object{
		"Name": sub("${AWS::StackName}-${AWS::Region}-psa"), "AutoPublish": true, "FunctionCode": comments.ReplaceAllString(pinningFunction, ""),
		"FunctionConfig": object{"Comment": "The path of the pinning service API", "Runtime": "cloudfront-js-2.0"},
	}))
	return door{id: "Pinning", what: "pinning service API", listen: edgePinningPort, port: pinningPort, health: clusterHealthPort, container: clusterContainer, made: on,
		behavior: object{
			"PathPattern": "/psa/*", "TargetOriginId": "pinning",
			"ViewerProtocolPolicy": "https-only", "Compress": false, "CachePolicyId": cachingDisabled, "OriginRequestPolicyId": allViewer,
			"AllowedMethods":       list{"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"},
			"FunctionAssociations": list{object{"EventType": "viewer-request", "FunctionARN": attribute("PinningPath", "FunctionARN")}},
		}}
}

// Policies that CloudFront has in every account: nothing is cached; all that the
// viewer sent is passed on, Authorization too.
const (
	cachingDisabled = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
	allViewer       = "216adef6-5c7f-47e4-b989-5492eafa07d3"
)

// behind is a listener and its targets: all nodes, asked whether they are ready
// where they say so.
func behind(stack awscdk.Stack, d door, n net) {
	resource(stack, d.id+"Targets", "AWS::ElasticLoadBalancingV2::TargetGroup", object{
		"VpcId": ref("Vpc"), "TargetType": "ip", "Protocol": "HTTP", "Port": d.port,
		"HealthCheckPath": "/readyz", "HealthCheckPort": strconv.Itoa(d.health), "HealthCheckIntervalSeconds": 10, "HealthCheckTimeoutSeconds": 5,
		"HealthyThresholdCount": 2, "UnhealthyThresholdCount": 6,
		"TargetGroupAttributes": list{
			object{"Key": "deregistration_delay.timeout_seconds", "Value": "60"},
			object{"Key": "load_balancing.algorithm.type", "Value": "least_outstanding_requests"},
		},
	})
	resource(stack, d.id+"Listener", "AWS::ElasticLoadBalancingV2::Listener", object{
		"LoadBalancerArn": ref("Balancer"), "Protocol": "HTTP", "Port": d.listen,
		"DefaultActions": list{object{"Type": "forward", "TargetGroupArn": ref(d.id + "Targets")}},
	})
	// The name is global to the account: stacks of one name in two regions must not collide.
	made := after(resource(stack, d.id+"Origin", "AWS::CloudFront::VpcOrigin", object{"VpcOriginEndpointConfig": object{
		"Name": sub("${AWS::StackName}-${AWS::Region}-" + d.id), "Arn": ref("Balancer"), "HTTPPort": d.listen, "OriginProtocolPolicy": "http-only",
	}}), append([]string{d.id + "Listener"}, n.internet...)...)
	if d.made != nil {
		only(d.made, made)
	}
}

// origin is a listener of the balancer. CloudFront waits 120 s for an answer, the most that it does
// without a quota: an add is acknowledged late if one node is slow.
func origin(id string, d door) object {
	return object{"Id": id, "DomainName": attribute("Balancer", "DNSName"), "VpcOriginConfig": object{
		"VpcOriginId": attribute(d.id+"Origin", "Id"), "OriginReadTimeout": 120, "OriginKeepaliveTimeout": 60,
	}}
}

// distribution reaches the balancer through a VPC origin of its own: the balancer
// has no public address, and each distribution has listeners of its own.
func distribution(stack awscdk.Stack, p *parameters, d door, more ...door) {
	origins := list{origin("balancer", d)}
	for _, m := range more {
		origins = append(origins, choose(m.made, origin(fmt.Sprint(m.behavior["TargetOriginId"]), m), nil))
	}
	own := p.given("CertificateArn", "")
	d.behavior["TargetOriginId"] = "balancer"
	config := object{
		"Enabled": true, "Comment": sub("${AWS::StackName} " + d.id), "HttpVersion": "http2and3", "IPV6Enabled": true,
		"Origins":              origins,
		"DefaultCacheBehavior": d.behavior,
		"Aliases":              choose(own, list{ref(d.id + "Domain")}, nil),
		"ViewerCertificate": choose(own, object{
			"AcmCertificateArn": ref("CertificateArn"), "SslSupportMethod": "sni-only", "MinimumProtocolVersion": "TLSv1.2_2021",
		}, nil),
	}
	for k, v := range d.distribution {
		config[k] = v
	}
	resource(stack, d.id+"Distribution", "AWS::CloudFront::Distribution", object{"DistributionConfig": config})
}

func forget(code int) object { return object{"ErrorCode": code, "ErrorCachingMinTTL": 1} }

//go:embed accept.js
var acceptFunction string

//go:embed psa.js
var pinningFunction string

var comments = regexp.MustCompile(`(?m)^//.*\n`)

// gatewayBehavior caches what the node says may be cached and as long as it says:
// immutable content for a year, names for their time to live, the rest not at all.
func gatewayBehavior(stack awscdk.Stack) object {
	resource(stack, "GatewayCache", "AWS::CloudFront::CachePolicy", object{"CachePolicyConfig": object{
		"Name": sub("${AWS::StackName}-${AWS::Region}-gateway"), "MinTTL": 0, "DefaultTTL": 0, "MaxTTL": 31536000,
		"ParametersInCacheKeyAndForwardedToOrigin": object{
			"QueryStringsConfig": object{"QueryStringBehavior": "all"}, "CookiesConfig": object{"CookieBehavior": "none"},
			// Host for sites by DNSLink; Accept is one of few after the function.
			"HeadersConfig":            object{"HeaderBehavior": "whitelist", "Headers": list{"Accept", "Host"}},
			"EnableAcceptEncodingGzip": true, "EnableAcceptEncodingBrotli": true,
		},
	}})
	resource(stack, "GatewayHeaders", "AWS::CloudFront::ResponseHeadersPolicy", object{"ResponseHeadersPolicyConfig": object{
		"Name": sub("${AWS::StackName}-${AWS::Region}-gateway"),
		"SecurityHeadersConfig": object{
			"StrictTransportSecurity": object{"AccessControlMaxAgeSec": 31536000, "Override": false},
			"ContentTypeOptions":      object{"Override": true},
			"ReferrerPolicy":          object{"ReferrerPolicy": "strict-origin-when-cross-origin", "Override": false},
		},
	}})
	resource(stack, "Accept", "AWS::CloudFront::Function", object{
		"Name": sub("${AWS::StackName}-${AWS::Region}-accept"), "AutoPublish": true, "FunctionCode": comments.ReplaceAllString(acceptFunction, ""),
		"FunctionConfig": object{"Comment": "Accept, for the cache", "Runtime": "cloudfront-js-2.0"},
	})
	return object{
		"ViewerProtocolPolicy": "redirect-to-https", "Compress": true, "AllowedMethods": list{"GET", "HEAD", "OPTIONS"},
		"CachePolicyId": ref("GatewayCache"), "ResponseHeadersPolicyId": ref("GatewayHeaders"),
		"FunctionAssociations": list{object{"EventType": "viewer-request", "FunctionARN": attribute("Accept", "FunctionARN")}},
	}
}

func output(stack awscdk.Stack, id, what string, value object) {
	awscdk.NewCfnOutput(stack, &id, &awscdk.CfnOutputProps{Description: &what, Value: awscdk.Token_AsString(value, nil)})
}
