// Package examples holds what docs/images.md shows of other ways to run the images
// than compose: a task definition of ECS and a manifest of Kubernetes. Its tests read
// them, and compose.yaml, as strictly as those who they are for, and give the
// settings of every container to the programs themselves.
package examples
