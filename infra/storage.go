package infra

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
)

// user is who the images run as (docker/*.Dockerfile).
const user = "1000"

// storage is what outlives the tasks.
type storage struct {
	p       *parameters
	systems []string // file systems: one per zone, or one
	bucket  bool
}

// fileSystem is one of them, the stack's own or one that exists.
func (s storage) fileSystem(id string) object {
	return choose(s.p.own(id), ref(id), ref("Existing"+id))
}

func (s storage) fileSystemARN(id string) object {
	return choose(s.p.own(id), attribute(id, "Arn"), sub("arn:${AWS::Partition}:elasticfilesystem:${AWS::Region}:${AWS::AccountId}:file-system/${Existing"+id+"}"))
}

// blocks is the name of the bucket.
func (s storage) blocks() object {
	return choose(s.p.own("Bucket"), ref("Blocks"), ref("ExistingBucket"))
}

func newStorage(stack awscdk.Stack, o Options, p *parameters, n net) storage {
	s := storage{p: p, bucket: o.Storage == S3}
	for z := range letters {
		id := fileSystemOf(o, z)
		if len(s.systems) == 0 || o.Storage != Standard {
			s.systems = append(s.systems, id)
			fileSystem(stack, o, p, id, z)
		}
		resource(stack, "Mount"+letters[z], "AWS::EFS::MountTarget", object{
			"FileSystemId": s.fileSystem(id), "SubnetId": n.inner[z], "SecurityGroups": list{ref("StorageGroup")},
		})
	}
	// A folder of a node is an access point: beyond it, the node cannot reach.
	for _, n := range o.NamedNodes() {
		fs := s.fileSystem(fileSystemOf(o, n.Zone))
		accessPoint(stack, n.ID+"Repo", fs, "/"+n.Name+"/ipfs")
		accessPoint(stack, n.ID+"Pinset", fs, "/"+n.Name+"/ipfs-cluster")
	}
	if s.bucket {
		bucket(stack, p)
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
	// One copy of the same content is enough in the backups; journals and keys differ by node.
	backed := p.when("BackUpAll", equal("EfsBackups", "all"))
	if z == 0 && o.Storage == OneZone {
		backed = p.when("BackUpOne", not(equal("EfsBackups", "none")))
	}
	properties := object{
		"Encrypted":                    true,
		"BackupPolicy":                 object{"Status": choose(backed, "ENABLED", "DISABLED")},
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
	only(p.own(id), keep(resource(stack, id, "AWS::EFS::FileSystem", properties)))
}

func accessPoint(stack awscdk.Stack, id string, fileSystem object, path string) {
	resource(stack, id, "AWS::EFS::AccessPoint", object{
		"FileSystemId": fileSystem,
		"PosixUser":    object{"Uid": user, "Gid": user},
		"RootDirectory": object{"Path": path,
			"CreationInfo": object{"OwnerUid": user, "OwnerGid": user, "Permissions": "0700"}},
	})
}

// requestMetrics is the name of the filter that all requests pass, for the alarm
// on their price.
const requestMetrics = "all"

// bucket is encrypted and its owner's alone, as S3 has it for all buckets. Packs are never changed, so
// that old versions are what was deleted: kept for a week, in case that was a mistake.
func bucket(stack awscdk.Stack, p *parameters) {
	own := p.own("Bucket")
	only(own, keep(resource(stack, "Blocks", "AWS::S3::Bucket", object{
		"PublicAccessBlockConfiguration": object{"BlockPublicAcls": true, "BlockPublicPolicy": true, "IgnorePublicAcls": true, "RestrictPublicBuckets": true},
		"MetricsConfigurations":          list{object{"Id": requestMetrics}},
		"VersioningConfiguration":        object{"Status": "Enabled"},
		"LifecycleConfiguration": object{"Rules": list{
			object{"Id": "broken-off", "Status": "Enabled", "AbortIncompleteMultipartUpload": object{"DaysAfterInitiation": keptDays}},
			object{"Id": "deleted", "Status": "Enabled", "NoncurrentVersionExpiration": object{"NoncurrentDays": keptDays}, "ExpiredObjectDeleteMarker": true},
		}},
	})))
	only(own, keep(resource(stack, "BlocksPolicy", "AWS::S3::BucketPolicy", object{
		"Bucket": ref("Blocks"),
		"PolicyDocument": object{"Version": "2012-10-17", "Statement": list{object{
			"Sid": "TlsOnly", "Effect": "Deny", "Principal": object{"AWS": "*"}, "Action": "s3:*",
			"Resource":  list{attribute("Blocks", "Arn"), sub("${Blocks.Arn}/*")},
			"Condition": object{"Bool": object{"aws:SecureTransport": "false"}},
		}}},
	})))
}

// keptDays are how long what was deleted can be had back.
const keptDays = 7

// reach is what the role of a node may do: its own folders, and its own prefix in
// the bucket. The bucket may be listed as a whole, because without that S3 answers
// 403 and not 404 for what is not there (docs/s3ds.md).
func (s storage) reach(o Options, n Named) list {
	all := list{allow(list{s.fileSystemARN(fileSystemOf(o, n.Zone))}, "elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite")}
	all[0].(object)["Condition"] = object{"StringEquals": object{
		"elasticfilesystem:AccessPointArn": list{attribute(n.ID+"Repo", "Arn"), attribute(n.ID+"Pinset", "Arn")},
	}}
	if s.bucket {
		all = append(all,
			allow(list{s.inBucket(""), s.inBucket("/" + n.Name + "/*")}, "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"))
	}
	return all
}

// inBucket is the ARN of the bucket, or of what is in it.
func (s storage) inBucket(path string) object {
	return object{"Fn::Sub": list{"arn:${AWS::Partition}:s3:::${Bucket}" + path, object{"Bucket": s.blocks()}}}
}

// allow is a statement of a policy.
func allow(what any, actions ...string) object {
	return object{"Effect": "Allow", "Action": actions, "Resource": what}
}
