package spec

import (
	"regexp"
	"strings"
)

// selinuxLevel is a level of MLS or MCS, or a range of them: sensitivities with categories, which stand alone, in
// ranges and in lists ("s0:c1,c2", "s0-s0:c0.c1023").
var selinuxLevel = regexp.MustCompile(`^s[0-9]{1,2}(:c[0-9]{1,4}([.,]c[0-9]{1,4})*)?(-s[0-9]{1,2}(:c[0-9]{1,4}([.,]c[0-9]{1,4})*)?)?$`)

// validate checks the form of a label's parts; whether the node's policy has them is asked where it is known.
func (s *SELinux) validate(field string) error {
	if s == nil {
		return nil
	}
	for _, part := range []struct{ name, value string }{{"user", s.User}, {"role", s.Role}, {"type", s.Type}} {
		if len(part.value) > 255 || strings.ContainsFunc(part.value, func(r rune) bool { return r <= ' ' || r == ':' || r == 0x7f }) {
			return invalid(field+"."+part.name, part.value, "must be a word without colons, of at most 255 bytes")
		}
	}
	if s.Level != "" && !selinuxLevel.MatchString(s.Level) {
		return invalid(field+".level", s.Level, `must be a level like "s0:c1,c2"`)
	}
	return nil
}
