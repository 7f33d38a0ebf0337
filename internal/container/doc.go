// Package container is what a program needs to be the only one in an image that
// was made from scratch. It is shared by the programs of all images.
//
//   - Certificate authorities and time zones are linked in (bare.go): such an
//     image has neither. Those of the system, and of SSL_CERT_FILE and
//     SSL_CERT_DIR, win where they exist. Importing the package is enough.
//   - [SetMemoryLimit] sets Go's soft memory limit from the container's cgroup.
//   - [ReapOrphans] collects processes whose parent died before them. The kernel
//     gives them to the first process of a container. They come from commands
//     that people run in it, and from health checks that were cut off.
//   - [UsableVolume] checks that this process may work in a mounted folder, and
//     says how to fix it if not.
//   - [Listener] asks a process in the same container whether it is alive or
//     ready. It is the client of plugin/health and cluster/door/health, which
//     both answer /livez and /readyz.
//
// Nothing here writes to disk, so a crash leaves nothing behind.
package container
