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
//	go test ./test/s3              most rows of our side of the bill, against the recorded one of go-ds-s3
//	TEST_FULL=1                    all rows of both sides, more rounds of kill -9
//	S3BILL_IDLE=10m                how long the idle row lasts (1m)
//	S3BILL_LATENCY=1               compares speeds under the latency model, too
package s3bill
