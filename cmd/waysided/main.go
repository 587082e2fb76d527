// Command waysided is every service of the box in one binary; the first word,
// or the name it is called by, picks the service.
package main

import (
	"fmt"
	"os"
)

func main() {
	root := newRootCmd(processEnv())
	root.SetArgs(serviceArgs(os.Args))
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "waysided:", err)
		os.Exit(1)
	}
}
