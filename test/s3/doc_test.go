// Package s3bill counts what the built ipfs-aws asks of S3, side by side with
// stock kubo on go-ds-s3 0.11 doing the same work, and proves with processes
// that are killed, stopped and restarted that no acknowledged block is lost.
//
// The requests are counted in front of a real S3 server by a proxy. What
// ipfs-aws may ask at most stands in testdata/bill.txt, next to what go-ds-s3
// asked when the file was written (go test ./test/s3 -run TestBill -update). A
// change that costs users a request fails here.
//
// Stock kubo is this test binary under another role: both datastores are of type
// "s3ds", and one process can only have one of them.
//
//	go test ./test/s3              everything but what follows: under 4 minutes
//	go test ./test/s3 -short       fewer rows of the bill, fewer rounds
//	S3BILL_IDLE=10m                how long the idle row lasts (1m)
//	S3BILL_ROUNDS=30               rounds of kill -9 (2 for each durability)
//	S3BILL_LATENCY=1               compares speeds under the latency model, too
package s3bill
