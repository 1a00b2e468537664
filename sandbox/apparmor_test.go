package sandbox

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/oci/apparmor"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// fakeAppArmor has profiles by name.
type fakeAppArmor struct {
	off      bool
	profiles map[string]bool
	broken   error // of LoadDefault
	loads    int
}

func (f *fakeAppArmor) Enabled() bool { return !f.off }

func (f *fakeAppArmor) Loaded(name string) (bool, error) {
	if f.off {
		return false, apparmor.ErrOff
	}
	return f.profiles[name], nil
}

func (f *fakeAppArmor) LoadDefault(string) error {
	f.loads++
	return f.broken
}

func TestAppArmorChoice(t *testing.T) {
	on := func() *fakeAppArmor { return &fakeAppArmor{profiles: map[string]bool{"web": true}} }
	broken := func() *fakeAppArmor { return &fakeAppArmor{broken: errors.New("no parser")} }
	off := func() *fakeAppArmor { return &fakeAppArmor{off: true} }
	runtimeDefault := &spec.SecurityProfile{Kind: spec.ProfileRuntimeDefault}
	unconfined := &spec.SecurityProfile{Kind: spec.ProfileUnconfined}
	named := func(name string) *spec.SecurityProfile {
		return &spec.SecurityProfile{Kind: spec.ProfileLocalhost, Localhost: name}
	}
	for _, c := range []struct {
		name       string
		host       *fakeAppArmor
		asked      *spec.SecurityProfile
		privileged bool
		want       string
		bad        string // in the error
	}{
		{"nothing said", on(), nil, false, "berth-default", ""},
		{"default", on(), runtimeDefault, false, "berth-default", ""},
		{"unconfined", on(), unconfined, false, "", ""},
		{"named", on(), named("web"), false, "web", ""},
		{"named, privileged", on(), named("web"), true, "web", ""},
		{"missing", on(), named("db"), false, "", `linux.security_context.apparmor.localhost_ref "db": is not loaded`},
		{"privileged", on(), runtimeDefault, true, "", ""},
		{"nothing said, privileged", on(), nil, true, "", ""},
		{"off", off(), nil, false, "", ""},
		{"off, default", off(), runtimeDefault, false, "", ""},
		{"off, named", off(), named("web"), false, "", `localhost_ref "web": needs AppArmor`},
		{"can't be loaded", broken(), nil, false, "", ""},
		{"can't be loaded, default", broken(), runtimeDefault, false, "", "no parser"},
	} {
		log := logrus.New()
		log.SetOutput(io.Discard)
		a := newAppArmor(c.host, "berth-default", log)
		got, err := a.choose(c.asked, c.privileged)
		if got != c.want || (err != nil) != (c.bad != "") || err != nil && (!errors.Is(err, spec.ErrInvalid) || !strings.Contains(err.Error(), c.bad)) {
			t.Errorf("%s: %q, %v; want %q, %q", c.name, got, err, c.want, c.bad)
		}
		_, _ = a.choose(c.asked, c.privileged)
		if c.host.loads > 1 {
			t.Errorf("%s: loaded %d times", c.name, c.host.loads)
		}
	}
	host := on()
	if got, err := newAppArmor(host, "", logrus.New()).choose(runtimeDefault, false); got != "" || err != nil || host.loads > 0 {
		t.Errorf("no default profile: %q, %v", got, err)
	}
}
