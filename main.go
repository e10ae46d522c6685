// Command mailsrv is a complete mail server in one binary: see README.md.
package main

import (
	"os"

	"mailsrv/cmd"
)

func main() { os.Exit(cmd.Execute()) }
