// Command static fails for each of the programs it is given that needs an
// interpreter, and so is not static, or is not of the architecture that was asked
// for:
//
//	static [-arch amd64|arm64] PROGRAM…
package main

import (
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"os"
)

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

func main() {
	arch := flag.String("arch", "", "`architecture` that the programs must have")
	flag.Parse()
	var errs []error
	for _, path := range flag.Args() {
		errs = append(errs, check(path, *arch))
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "static:", err)
		os.Exit(1)
	}
}

func check(path, arch string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("open program: %w", err)
	}
	defer f.Close()
	if arch != "" && f.Machine != machines[arch] {
		return fmt.Errorf("%s is for %v, not %s", path, f.Machine, arch)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not static: it names an interpreter", path)
		}
	}
	return nil
}
