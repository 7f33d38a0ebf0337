package infra

import (
	"maps"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
)

// Resources are written as CloudFormation's documentation has them, since what
// the CDK's own constructs add (tags, hashes, rules apart from their groups) does
// not fit into a template that can be launched as it is.

// object is a JSON object.
type object = map[string]any

// list is a JSON array.
type list = []any

// resource adds a resource to a template.
func resource(stack awscdk.Stack, id, kind string, properties object) awscdk.CfnResource {
	return awscdk.NewCfnResource(stack, jsii.String(id), &awscdk.CfnResourceProps{Type: jsii.String(kind), Properties: &properties})
}

// keep says that a resource stays when the stack is deleted or replaces it, but not when the launch
// fails that would have made it: nothing is in it then, and it would be paid for.
func keep(r awscdk.CfnResource) awscdk.CfnResource {
	r.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE, nil)
	return r
}

// only says under which condition there is a resource.
func only(c awscdk.CfnCondition, r awscdk.CfnResource) awscdk.CfnResource {
	r.CfnOptions().SetCondition(c)
	return r
}

// after says that a resource waits for others that it does not refer to.
func after(r awscdk.CfnResource, ids ...string) awscdk.CfnResource {
	r.AddOverride(jsii.String("DependsOn"), ids)
	return r
}

// ref is the value of a parameter, the physical ID of a resource, or one of the
// values that CloudFormation has by itself.
func ref(id string) object { return object{"Ref": id} }

// attribute is one of those that CloudFormation knows of a resource once it is there.
func attribute(id, name string) object { return object{"Fn::GetAtt": list{id, name}} }

// sub puts values into a text: ${Parameter}, ${Resource}, ${Resource.Attribute}.
func sub(text string) object { return object{"Fn::Sub": text} }

// choose is one of two values. nil leaves the property out.
func choose(c awscdk.CfnCondition, yes, no any) object {
	if no == nil {
		no = ref("AWS::NoValue")
	}
	return object{"Fn::If": list{*c.LogicalId(), yes, no}}
}

// look finds a value in a mapping.
func look(mapping, key any, second string) object {
	return object{"Fn::FindInMap": list{mapping, key, second}}
}

// part is one of the parts of a list.
func part(i int, of any) object { return object{"Fn::Select": list{i, of}} }

// cut is the part of a text before the first separator.
func cut(text any, separator string) object {
	return part(0, object{"Fn::Split": list{separator, text}})
}

func sorted(o object) []string { return sortedKeys(o) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
