// Package suite runs work against blockstores and writes down what happened.
//
// It knows no store and no workload. Each is a value that a file of its own registers when the program starts ([RegisterStore],
// [RegisterWorkload]); packages stores and workloads hold them, and benchmarks/README.md shows how one more is made.
//
// A unit of work is one store at one level in one round: a fresh [Place] (a listener of the S3 model with a bucket, a mount of the EFS
// model, a folder), a store or a daemon in it, and all workloads one after the other. Rounds go through all stores before the next begins,
// each from another store on, so that a machine that slows down slows all of them alike.
//
// What is measured is between the two looks at the counters that [Run.Measure] takes. Everything before runs without waiting
// (dilation 0), everything inside at the run's dilation; and what the work leaves behind (uploads) is waited for and counted
// before the second look.
package suite
