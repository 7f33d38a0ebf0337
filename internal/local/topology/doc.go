// Package topology runs the deployed topology as processes on one machine: an
// S3 server (for the s3 blockstore), tasks of two processes each, and an edge.
// Everything listens on 127.0.0.1 only.
//
// What it keeps, all under one folder:
//
//	state.json     what the folder is: blockstore, tasks, generated credentials
//	status.json    what runs now: URLs, pids; only while it runs
//	lock           held by the one supervisor of the folder
//	edge.json      the edge's configuration
//	s3/            the S3 server's data
//	task-N/ipfs    the repo, task-N/cluster the sidecar's folder
//	logs/          one file per process
//
// Invariants:
//
//   - Nothing is started before everything that can be checked has been:
//     options, binaries, the folder, what it holds already, all ports.
//   - What a folder was made with stays: another blockstore, another bucket or
//     fewer tasks are refused with the way out, never a reset. Ports may move.
//   - Secrets live in state.json and status.json (mode 0600) and reach children
//     by their environment.
//   - A crash at any point, of this process too, leaves nothing running and
//     the folder ready to be started again: files are replaced by rename, and
//     a repo gets its name only when it is whole.
//
// One call, [Up], does it; it is meant for a command that then exits.
package topology
