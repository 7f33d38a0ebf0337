// Package image makes container images from a staged folder and a recipe
// (package recipe), the same bytes for the same input: every file has the date
// that it is given, no owner has a name, and the order is that of the alphabet.
//
// Rooms: [Stage] puts a program, its licences and its bill of materials into a
// folder, which is also the context of `docker build`; [Build] makes an image of
// a stage; [Write] puts the images of a name, one per platform, into an OCI
// layout, and [Push] sends a layout to a registry; [Settle] gives what `docker
// build` has made the dates that make it reproducible.
package image
