// Package workloads holds the work that stores are measured with, one file each. Importing it registers them.
package workloads
