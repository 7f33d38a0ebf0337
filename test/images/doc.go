// Package images holds the tests of the container images, with the Docker engine
// of this machine: alone, and all of docker/compose.yaml. They build the images of
// bin/ (`make build` first), and remove all that they made. Where no engine answers
// they are skipped, and say so, or fail, if TEST_REQUIRE names docker.
package images
