// Package compose starts and ends the deployment in containers on this machine,
// as docker/compose.yaml describes it, with whatever compose there is: `docker
// compose` or docker-compose 1.29.
//
// What the containers share is in one folder, made by [Prepare] and kept:
//
//	secrets/   a file for each secret, mounted where it is needed
//	s3.env     the same keys for the S3 server, which reads its environment only
//	tls/       the authority and the certificate of the edge (package localca)
//
// The folder has mode 0700; the files in it can be read by everybody, because the
// user of the containers is not the one who makes them. A file that is there is never
// replaced, so the deployment stays the one it is: same peers, same network, same
// credentials. The data is in volumes of Docker.
package compose
