package infra

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsefs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"
)

// user is who the images run as (docker/*.Dockerfile).
const user = "1000"

// storage is what outlives the tasks.
type storage struct {
	systems []awsefs.CfnFileSystem // one per zone, or one
	mounts  []awsefs.CfnMountTarget
	bucket  awss3.Bucket // nil without s3
	folders map[string]folders
}

// folders of one node: an access point each, beyond which it cannot reach.
type folders struct {
	system       awsefs.CfnFileSystem
	mount        awsefs.CfnMountTarget // in the node's zone
	repo, pinset awsefs.CfnAccessPoint
}

func newStorage(stack awscdk.Stack, o Options, p *parameters, net *network) *storage {
	s := &storage{folders: map[string]folders{}}
	var byZone [3]awsefs.CfnFileSystem
	for z := range byZone {
		id := "FileSystem"
		switch {
		case o.Storage != Standard:
			id += string(rune('A' + z))
			byZone[z] = s.fileSystem(stack, p, id, net.zones[z])
		case z == 0:
			byZone[z] = s.fileSystem(stack, p, id, nil)
		default:
			byZone[z] = byZone[0]
		}
		s.mounts = append(s.mounts, awsefs.NewCfnMountTarget(stack, jsii.String("MountTarget"+string(rune('A'+z))), &awsefs.CfnMountTargetProps{
			FileSystemId:   byZone[z].AttrFileSystemId(),
			SubnetId:       net.private[z].SubnetId(),
			SecurityGroups: jsii.Strings(*net.storageGroup.SecurityGroupId()),
		}))
	}
	for _, n := range o.NamedNodes() {
		f := folders{system: byZone[n.Zone], mount: s.mounts[n.Zone]}
		f.repo = accessPoint(stack, n.ID+"Repo", f.system, "/"+n.Name+"/ipfs")
		f.pinset = accessPoint(stack, n.ID+"Pinset", f.system, "/"+n.Name+"/ipfs-cluster")
		s.folders[n.Name] = f
	}
	if o.Storage == S3 {
		s.bucket = newBucket(stack)
	}
	return s
}

// fileSystem in one zone, or in all if zone is nil.
func (s *storage) fileSystem(stack awscdk.Stack, p *parameters, id string, zone *string) awsefs.CfnFileSystem {
	provisioned := p.when("IsProvisioned", equal(ref(p.throughput), "provisioned"))
	fs := awsefs.NewCfnFileSystem(stack, jsii.String(id), &awsefs.CfnFileSystemProps{
		AvailabilityZoneName:         zone,
		Encrypted:                    true,
		BackupPolicy:                 &awsefs.CfnFileSystem_BackupPolicyProperty{Status: ref(p.backups)},
		ThroughputMode:               ref(p.throughput),
		ProvisionedThroughputInMibps: awscdk.Token_AsNumber(choose(provisioned, p.mibps.Value(), nil)),
		// It allows nothing: who may mount is said by the roles of the tasks, so
		// that nobody without one can. What it denies, no role may allow.
		FileSystemPolicy: map[string]any{"Version": "2012-10-17", "Statement": []any{
			map[string]any{
				"Sid": "TlsOnly", "Effect": "Deny", "Principal": map[string]any{"AWS": "*"}, "Resource": "*",
				"Action":    []string{"elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite", "elasticfilesystem:ClientRootAccess"},
				"Condition": map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}},
			},
			map[string]any{
				"Sid": "NobodyIsRoot", "Effect": "Deny", "Principal": map[string]any{"AWS": "*"}, "Resource": "*",
				"Action": "elasticfilesystem:ClientRootAccess",
			},
		}},
		FileSystemTags: &[]*awsefs.CfnFileSystem_ElasticFileSystemTagProperty{{Key: jsii.String("Name"), Value: jsii.String(*awscdk.Aws_STACK_NAME() + " " + id)}},
	})
	fs.ApplyRemovalPolicy(awscdk.RemovalPolicy_RETAIN, nil)
	s.systems = append(s.systems, fs)
	return fs
}

func accessPoint(stack awscdk.Stack, id string, fs awsefs.CfnFileSystem, path string) awsefs.CfnAccessPoint {
	return awsefs.NewCfnAccessPoint(stack, jsii.String(id), &awsefs.CfnAccessPointProps{
		FileSystemId: fs.AttrFileSystemId(),
		PosixUser:    &awsefs.CfnAccessPoint_PosixUserProperty{Uid: jsii.String(user), Gid: jsii.String(user)},
		RootDirectory: &awsefs.CfnAccessPoint_RootDirectoryProperty{
			Path:         &path,
			CreationInfo: &awsefs.CfnAccessPoint_CreationInfoProperty{OwnerUid: jsii.String(user), OwnerGid: jsii.String(user), Permissions: jsii.String("0700")},
		},
	})
}

func newBucket(stack awscdk.Stack) awss3.Bucket {
	return awss3.NewBucket(stack, jsii.String("Blocks"), &awss3.BucketProps{
		BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		EnforceSSL:        jsii.Bool(true),
		Encryption:        awss3.BucketEncryption_S3_MANAGED,
		ObjectOwnership:   awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED,
		// Request metrics, which the alarm on their price needs.
		Metrics:        &[]*awss3.BucketMetrics{{Id: jsii.String(requestMetrics)}},
		LifecycleRules: &[]*awss3.LifecycleRule{{AbortIncompleteMultipartUploadAfter: days(7)}},
		RemovalPolicy:  awscdk.RemovalPolicy_RETAIN,
	})
}

// requestMetrics is the name of the filter that all requests pass.
const requestMetrics = "all"

// admit lets a node reach its own folders, and its own prefix in the bucket.
func (s *storage) admit(role awsiam.Role, n Named) {
	f := s.folders[n.Name]
	role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions:   jsii.Strings("elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"),
		Resources: jsii.Strings(*f.system.AttrArn()),
		Conditions: &map[string]any{"StringEquals": map[string]any{
			"elasticfilesystem:AccessPointArn": []*string{f.repo.AttrArn(), f.pinset.AttrArn()},
		}},
	}))
	if s.bucket == nil {
		return
	}
	// The whole bucket, because without it S3 answers 403 and not 404 for what is
	// not there (docs/s3ds.md).
	role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions: jsii.Strings("s3:ListBucket"), Resources: jsii.Strings(*s.bucket.BucketArn()),
	}))
	role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions: jsii.Strings("s3:GetObject", "s3:PutObject", "s3:DeleteObject"), Resources: jsii.Strings(*s.bucket.ArnForObjects(jsii.String(n.Name + "/*"))),
	}))
}

func days(n float64) awscdk.Duration    { return awscdk.Duration_Days(&n) }
func seconds(n float64) awscdk.Duration { return awscdk.Duration_Seconds(&n) }
