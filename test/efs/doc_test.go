// Package efs_test runs the efs blockstore under real kubo, whole commands in
// processes of their own, beside the flatfs that kubo brings.
package efs_test
