// Command nnp prints the user it runs as. The nonewprivs test image has it setuid
// root, so what it prints tells whether no_new_privs was set.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Printf("Effective uid: %d\n", os.Geteuid())
}
