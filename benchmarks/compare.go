package main

import "github.com/spf13/cobra"

func compareCommand() *cobra.Command { return &cobra.Command{Use: "compare A B"} }
func adviseCommand() *cobra.Command  { return &cobra.Command{Use: "advise"} }
