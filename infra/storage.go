package infra

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
)

// user is who the images run as (docker/*.Dockerfile).
const user = "1000"

// storage is what outlives the tasks.
type storage struct {
	systems []string // file systems: one per zone, or one
	bucket  bool
}

func newStorage(stack awscdk.Stack, o Options, p *parameters) storage {
	s := storage{bucket: o.Storage == S3}
	for z := range letters {
		id := fileSystemOf(o, z)
		if len(s.systems) == 0 || o.Storage != Standard {
			s.systems = append(s.systems, id)
			fileSystem(stack, o, p, id, z)
		}
		resource(stack, "Mount"+letters[z], "AWS::EFS::MountTarget", object{
			"FileSystemId": ref(id), "SubnetId": ref("Private" + letters[z]), "SecurityGroups": list{ref("StorageGroup")},
		})
	}
	// A folder of a node is an access point: beyond it, the node cannot reach.
	for _, n := range o.NamedNodes() {
		accessPoint(stack, n.ID+"Repo", fileSystemOf(o, n.Zone), "/"+n.Name+"/ipfs")
		accessPoint(stack, n.ID+"Pinset", fileSystemOf(o, n.Zone), "/"+n.Name+"/ipfs-cluster")
	}
	if s.bucket {
		bucket(stack)
	}
	return s
}

// fileSystemOf names the file system that the nodes of a zone use.
func fileSystemOf(o Options, zone int) string {
	if o.Storage == Standard {
		return "FileSystem"
	}
	return "FileSystem" + letters[zone]
}

func fileSystem(stack awscdk.Stack, o Options, p *parameters, id string, z int) {
	properties := object{
		"Encrypted":                    true,
		"BackupPolicy":                 object{"Status": ref("EfsBackups")},
		"ThroughputMode":               ref("EfsThroughput"),
		"ProvisionedThroughputInMibps": choose(p.when("IsProvisioned", equal("EfsThroughput", "provisioned")), ref("EfsProvisionedMiBps"), nil),
		// It allows nothing: who may mount is said by the roles of the tasks, so that
		// nobody without one can. What it denies, no role may allow.
		"FileSystemPolicy": object{"Version": "2012-10-17", "Statement": list{object{
			"Effect": "Deny", "Principal": object{"AWS": "*"}, "Resource": "*",
			"Action":    "elasticfilesystem:Client*",
			"Condition": object{"Bool": object{"aws:SecureTransport": "false"}},
		}}},
	}
	if o.Storage != Standard {
		properties["AvailabilityZoneName"] = zone(z)
	}
	keep(resource(stack, id, "AWS::EFS::FileSystem", properties))
}

func accessPoint(stack awscdk.Stack, id, fileSystem, path string) {
	resource(stack, id, "AWS::EFS::AccessPoint", object{
		"FileSystemId": ref(fileSystem),
		"PosixUser":    object{"Uid": user, "Gid": user},
		"RootDirectory": object{"Path": path,
			"CreationInfo": object{"OwnerUid": user, "OwnerGid": user, "Permissions": "0700"}},
	})
}

// requestMetrics is the name of the filter that all requests pass, for the alarm
// on their price.
const requestMetrics = "all"

// bucket is encrypted and its owner's alone, as S3 has it for all buckets.
func bucket(stack awscdk.Stack) {
	keep(resource(stack, "Blocks", "AWS::S3::Bucket", object{
		"PublicAccessBlockConfiguration": object{"BlockPublicAcls": true, "BlockPublicPolicy": true, "IgnorePublicAcls": true, "RestrictPublicBuckets": true},
		"MetricsConfigurations":          list{object{"Id": requestMetrics}},
		"LifecycleConfiguration":         object{"Rules": list{object{"Status": "Enabled", "AbortIncompleteMultipartUpload": object{"DaysAfterInitiation": 7}}}},
	}))
	keep(resource(stack, "BlocksPolicy", "AWS::S3::BucketPolicy", object{
		"Bucket": ref("Blocks"),
		"PolicyDocument": object{"Version": "2012-10-17", "Statement": list{object{
			"Sid": "TlsOnly", "Effect": "Deny", "Principal": object{"AWS": "*"}, "Action": "s3:*",
			"Resource":  list{attribute("Blocks", "Arn"), sub("${Blocks.Arn}/*")},
			"Condition": object{"Bool": object{"aws:SecureTransport": "false"}},
		}}},
	}))
}

// reach is what the role of a node may do: its own folders, and its own prefix in
// the bucket. The bucket may be listed as a whole, because without that S3 answers
// 403 and not 404 for what is not there (docs/s3ds.md).
func (s storage) reach(o Options, n Named) list {
	all := list{allow(list{attribute(fileSystemOf(o, n.Zone), "Arn")}, "elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite")}
	all[0].(object)["Condition"] = object{"StringEquals": object{
		"elasticfilesystem:AccessPointArn": list{attribute(n.ID+"Repo", "Arn"), attribute(n.ID+"Pinset", "Arn")},
	}}
	if s.bucket {
		all = append(all,
			allow(list{attribute("Blocks", "Arn"), sub("${Blocks.Arn}/" + n.Name + "/*")}, "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"))
	}
	return all
}

// allow is a statement of a policy.
func allow(what any, actions ...string) object {
	return object{"Effect": "Allow", "Action": actions, "Resource": what}
}
