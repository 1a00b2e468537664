package seccomp

import (
	"fmt"
	"strings"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Default is the profile of a container with these capabilities ("CAP_…", its
// bounding set) on this machine and kernel: moby's, which Docker uses. Each
// call gives a new one; Compile takes equal ones for the same.
func Default(capabilities []string) (*specs.LinuxSeccomp, error) {
	return resolve(func(s *specs.Spec) (*specs.LinuxSeccomp, error) { return seccomp.GetDefaultProfile(s) }, capabilities)
}

// Load reads a profile as a file holds it, in OCI's form or in moby's with its
// conditions on capabilities, architecture and kernel.
func Load(text []byte, capabilities []string) (*specs.LinuxSeccomp, error) {
	profile, err := resolve(func(s *specs.Spec) (*specs.LinuxSeccomp, error) { return seccomp.LoadProfile(string(text), s) }, capabilities)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, strings.TrimPrefix(err.Error(), "Decoding seccomp profile failed: "))
	}
	if profile == nil {
		return nil, fmt.Errorf("%w: no default action", ErrInvalid)
	}
	return profile, nil
}

// resolve has a profile's conditions decided for a container.
func resolve(get func(*specs.Spec) (*specs.LinuxSeccomp, error), capabilities []string) (*specs.LinuxSeccomp, error) {
	return get(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}}})
}
