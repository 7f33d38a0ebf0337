// Package ecs asks the task metadata endpoint (version 4) of Amazon ECS who
// and where a task is.
//
// ECS gives every container the endpoint's address in the environment variable
// ECS_CONTAINER_METADATA_URI_V4; below it, /task answers a JSON object, of which
// this package reads TaskARN, AvailabilityZone, ServiceName and Family. The
// endpoint needs no credentials and answers only to the task itself.
package ecs
