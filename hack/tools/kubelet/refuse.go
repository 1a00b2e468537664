package main

import (
	"errors"
	"fmt"
	"strings"
)

// errSystemCgroups is what refuse returns.
var errSystemCgroups = errors.New("this kubelet does not run with systemCgroups: it would move the machine's processes")

// refuse looks for systemCgroups in the command line and in the file that it names as
// configuration. It rather refuses too much: any mention counts, also an empty one, and a
// directory of further configuration, which it does not read, is refused as a whole.
func refuse(args []string, read func(string) ([]byte, error)) error {
	for i, arg := range args {
		name, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !given && i+1 < len(args) {
			value = args[i+1]
		}
		switch strings.ReplaceAll(name, "_", "-") {
		case "system-cgroups":
			return fmt.Errorf("%s: %w", arg, errSystemCgroups)
		case "config-dir":
			return fmt.Errorf("%s is not looked through: %w", arg, errSystemCgroups)
		case "config":
			content, err := read(value)
			if err != nil {
				return err
			}
			if strings.Contains(strings.ToLower(string(content)), "systemcgroups") {
				return fmt.Errorf("%s: %w", value, errSystemCgroups)
			}
		}
	}
	return nil
}
