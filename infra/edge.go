package infra

import (
	_ "embed"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfrontorigins"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecs"
	elb "github.com/aws/aws-cdk-go/awscdk/v2/awselasticloadbalancingv2"
	"github.com/aws/jsii-runtime-go"
)

// door is one of the two ways in, with all that belongs to it.
type door struct {
	targets      elb.ApplicationTargetGroup
	distribution awscloudfront.Distribution
}

// edge is CloudFront and the balancer behind it.
type edge struct {
	balancer     elb.ApplicationLoadBalancer
	gateway, api door
}

func newEdge(stack awscdk.Stack, p *parameters, net *network, n *nodes) *edge {
	e := &edge{balancer: elb.NewApplicationLoadBalancer(stack, jsii.String("Balancer"), &elb.ApplicationLoadBalancerProps{
		Vpc: net.vpc, SecurityGroup: net.balancerGroup, InternetFacing: jsii.Bool(false),
		VpcSubnets:              &awsec2.SubnetSelection{Subnets: &net.private},
		DropInvalidHeaderFields: jsii.Bool(true),
		IdleTimeout:             seconds(120), // above what CloudFront waits
	})}
	e.gateway.targets = targets(stack, "Gateway", net, n, e.balancer, edgeGatewayPort, nodeContainer, gatewayPort, nodeHealthPort)
	e.api.targets = targets(stack, "Api", net, n, e.balancer, edgeAPIPort, clusterContainer, apiPort, clusterHealthPort)

	e.gateway.distribution = e.distribution(stack, "Gateway", edgeGatewayPort, p, p.gatewayDomain, gatewayBehavior(stack))
	e.api.distribution = e.distribution(stack, "Api", edgeAPIPort, p, p.apiDomain, &awscloudfront.BehaviorOptions{
		AllowedMethods:      awscloudfront.AllowedMethods_ALLOW_ALL(),
		CachePolicy:         awscloudfront.CachePolicy_CACHING_DISABLED(),
		OriginRequestPolicy: awscloudfront.OriginRequestPolicy_ALL_VIEWER(), // Authorization too
		Compress:            jsii.Bool(false),
	})
	api := e.api.distribution.Node().DefaultChild().(awscloudfront.CfnDistribution)
	api.AddPropertyOverride(jsii.String("DistributionConfig.WebACLId"), choose(p.given(p.webACL, ""), p.webACL.ValueAsString(), nil))

	output := func(id, what string, value *string) {
		awscdk.NewCfnOutput(stack, &id, &awscdk.CfnOutputProps{Description: &what, Value: value})
	}
	output("GatewayUrl", "Where consumers read: /ipfs/CID", jsii.String("https://"+*e.gateway.distribution.DomainName()))
	output("ApiUrl", "Where administrators pin", jsii.String("https://"+*e.api.distribution.DomainName()))
	output("AdminPasswordArn", "The secret that holds the password of user admin", n.secrets.password.SecretArn())
	return e
}

// targets is a target group of all nodes, asked whether they are ready on the
// port of their health, behind a listener.
func targets(stack awscdk.Stack, id string, net *network, n *nodes, balancer elb.ApplicationLoadBalancer, listen float64, container string, port, health int) elb.ApplicationTargetGroup {
	group := elb.NewApplicationTargetGroup(stack, jsii.String(id+"Targets"), &elb.ApplicationTargetGroupProps{
		Vpc: net.vpc, TargetType: elb.TargetType_IP, Port: jsii.Number(port), Protocol: elb.ApplicationProtocol_HTTP,
		LoadBalancingAlgorithmType: elb.TargetGroupLoadBalancingAlgorithmType_LEAST_OUTSTANDING_REQUESTS,
		DeregistrationDelay:        seconds(60),
		HealthCheck: &elb.HealthCheck{
			Path: jsii.String("/readyz"), Port: jsii.String(decimal(health)), HealthyHttpCodes: jsii.String("200"),
			Interval: seconds(10), Timeout: seconds(5), HealthyThresholdCount: jsii.Number(2), UnhealthyThresholdCount: jsii.Number(6),
		},
	})
	for _, service := range n.services {
		group.AddTarget(service.LoadBalancerTarget(&awsecs.LoadBalancerTargetOptions{ContainerName: &container, ContainerPort: jsii.Number(port)}))
	}
	balancer.AddListener(jsii.String(id), &elb.BaseApplicationListenerProps{
		Port: &listen, Protocol: elb.ApplicationProtocol_HTTP, Open: jsii.Bool(false), DefaultTargetGroups: &[]elb.IApplicationTargetGroup{group},
	})
	return group
}

// distribution reaches the balancer through a VPC origin of its own: the balancer
// has no public address, and each distribution one listener.
func (e *edge) distribution(stack awscdk.Stack, id string, port float64, p *parameters, domain awscdk.CfnParameter, behavior *awscloudfront.BehaviorOptions) awscloudfront.Distribution {
	behavior.ViewerProtocolPolicy = awscloudfront.ViewerProtocolPolicy_REDIRECT_TO_HTTPS
	if id == "Api" { // a redirected request has sent its password in the clear already
		behavior.ViewerProtocolPolicy = awscloudfront.ViewerProtocolPolicy_HTTPS_ONLY
	}
	behavior.Origin = awscloudfrontorigins.VpcOrigin_WithApplicationLoadBalancer(e.balancer, &awscloudfrontorigins.VpcOriginWithEndpointProps{
		VpcOriginName: jsii.String(*awscdk.Aws_STACK_NAME() + "-" + id), HttpPort: &port, ProtocolPolicy: awscloudfront.OriginProtocolPolicy_HTTP_ONLY,
		ReadTimeout: seconds(60), KeepaliveTimeout: seconds(60),
	})
	d := awscloudfront.NewDistribution(stack, jsii.String(id+"Distribution"), &awscloudfront.DistributionProps{
		Comment:         jsii.String(*awscdk.Aws_STACK_NAME() + " " + id),
		DefaultBehavior: behavior,
		HttpVersion:     awscloudfront.HttpVersion_HTTP2_AND_3,
		ErrorResponses:  forget(404, 500, 502, 503, 504),
	})
	own := p.given(domain, "")
	config := d.Node().DefaultChild().(awscloudfront.CfnDistribution)
	override := func(property string, value any) {
		config.AddPropertyOverride(jsii.String("DistributionConfig."+property), value)
	}
	override("PriceClass", ref(p.priceClass))
	override("Aliases", choose(own, []*string{domain.ValueAsString()}, nil))
	override("ViewerCertificate", choose(own, map[string]any{
		"AcmCertificateArn": p.certificate.ValueAsString(), "SslSupportMethod": "sni-only", "MinimumProtocolVersion": "TLSv1.2_2021",
	}, nil))
	return d
}

// forget keeps CloudFront from repeating an error after its reason is gone.
func forget(codes ...float64) *[]*awscloudfront.ErrorResponse {
	var out []*awscloudfront.ErrorResponse
	for _, c := range codes {
		out = append(out, &awscloudfront.ErrorResponse{HttpStatus: &c, Ttl: seconds(1)})
	}
	return &out
}

//go:embed accept.js
var acceptFunction string

// gatewayBehavior caches what the node says may be cached and as long as it says:
// immutable content for a year, names for their time to live, the rest not at all.
func gatewayBehavior(stack awscdk.Stack) *awscloudfront.BehaviorOptions {
	return &awscloudfront.BehaviorOptions{
		AllowedMethods: awscloudfront.AllowedMethods_ALLOW_GET_HEAD_OPTIONS(),
		CachePolicy: awscloudfront.NewCachePolicy(stack, jsii.String("GatewayCache"), &awscloudfront.CachePolicyProps{
			MinTtl: seconds(0), DefaultTtl: seconds(0), MaxTtl: days(365),
			QueryStringBehavior: awscloudfront.CacheQueryStringBehavior_All(),
			// Host for sites by DNSLink; Accept is one of few after the function.
			HeaderBehavior:             awscloudfront.CacheHeaderBehavior_AllowList(jsii.String("Accept"), jsii.String("Host")),
			EnableAcceptEncodingGzip:   jsii.Bool(true),
			EnableAcceptEncodingBrotli: jsii.Bool(true),
		}),
		Compress: jsii.Bool(true),
		FunctionAssociations: &[]*awscloudfront.FunctionAssociation{{
			EventType: awscloudfront.FunctionEventType_VIEWER_REQUEST,
			Function: awscloudfront.NewFunction(stack, jsii.String("Accept"), &awscloudfront.FunctionProps{
				Code: awscloudfront.FunctionCode_FromInline(&acceptFunction), Runtime: awscloudfront.FunctionRuntime_JS_2_0(),
			}),
		}},
		ResponseHeadersPolicy: awscloudfront.NewResponseHeadersPolicy(stack, jsii.String("GatewayHeaders"), &awscloudfront.ResponseHeadersPolicyProps{
			SecurityHeadersBehavior: &awscloudfront.ResponseSecurityHeadersBehavior{
				StrictTransportSecurity: &awscloudfront.ResponseHeadersStrictTransportSecurity{AccessControlMaxAge: days(365), Override: jsii.Bool(false)},
				ContentTypeOptions:      &awscloudfront.ResponseHeadersContentTypeOptions{Override: jsii.Bool(true)},
				ReferrerPolicy:          &awscloudfront.ResponseHeadersReferrerPolicy{ReferrerPolicy: awscloudfront.HeadersReferrerPolicy_STRICT_ORIGIN_WHEN_CROSS_ORIGIN, Override: jsii.Bool(false)},
			},
		}),
	}
}
