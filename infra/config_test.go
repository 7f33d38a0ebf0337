package infra

import (
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	for words, says := range map[string]string{
		"": "", "storage=s3 cpu=x86 nodes=2 egress=nat private=true network=existing zones=us-east-1a,us-east-1c,us-east-1f": "",
		"throughput=provisioned mibps=100":       "",
		"storage=tape":                           "storage=tape: must be onezone or standard or s3",
		"throughput=provisioned":                 "throughput=provisioned: provisioned needs mibps=N, the MiB/s to pay for",
		"mibps=5":                                "mibps=5: only throughput=provisioned has a number",
		"zones=us-east-1a,us-east-1b,us-east-1b": "zones=us-east-1a,us-east-1b,us-east-1b: two are equal: each zone has its own subnets, storage and tasks",
		"zones=0,1,2":                            "zones=0,1,2: must be three names of zones, such as us-east-1a,us-east-1b,us-east-1d",
		"nodes=0":                                "nodes=0: must be a number from 1 to 5",
		"colour=red":                             "colour=red: no option; there are " + strings.Join(keys, ", ") + ", each as key=value",
		"gateway-domain=a.example.org api-domain=b.example.org":                                                               domainsAndCertificate,
		"certificate=arn:aws:acm:eu-west-1:123456789012:certificate/0a gateway-domain=a.example.org api-domain=b.example.org": "certificate=arn:aws:acm:eu-west-1:123456789012:certificate/0a: must be the ARN of an ACM certificate in us-east-1, where CloudFront takes them from",
		"storage=tape nodes=x": "nodes=x: must be a number from 1 to 5; storage=tape: must be onezone or standard or s3",
	} {
		_, err := Parse(nil, strings.Fields(words))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != says {
			t.Errorf("%q:\n got %q\nwant %q", words, got, says)
		}
		if strings.Contains(got, "\n") {
			t.Errorf("%q: more than one line", words)
		}
	}
}

// What cdk is given with -c counts, and words win.
func TestContext(t *testing.T) {
	context := func(key string) string { return map[string]string{"storage": "s3", "nodes": "2"}[key] }
	o, err := Parse(context, []string{"nodes=3"})
	if err != nil || o.Storage != S3 || o.Nodes != 3 || o.Throughput != "bursting" {
		t.Errorf("%+v, %v", o, err)
	}
}
