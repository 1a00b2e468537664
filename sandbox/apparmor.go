package sandbox

import (
	"errors"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/oci/apparmor"
	"github.com/berth-runtime/berth/sandbox/spec"
)

// appArmor chooses the profiles of containers.
type appArmor struct {
	host    appArmorHost
	profile string // the default one's name; "": none
	load    func() error
}

// appArmorHost is the kernel's AppArmor (apparmor.Host).
type appArmorHost interface {
	Enabled() bool
	Loaded(name string) (bool, error)
	LoadDefault(name string) error
}

// newAppArmor loads nothing yet: loading takes a process, and a start of the daemon has
// no time for it.
func newAppArmor(host appArmorHost, profile string, log logrus.FieldLogger) *appArmor {
	return &appArmor{host: host, profile: profile, load: sync.OnceValue(func() error {
		if profile == "" || !host.Enabled() {
			return apparmor.ErrOff
		}
		err := host.LoadDefault(profile)
		if err != nil {
			log.WithFields(logrus.Fields{"op": "load " + profile, "error": err}).Warn("containers that name no AppArmor profile run without one")
		}
		return err
	})}
}

// choose is the name of the profile for a container, "" for none. What a client names
// must be there: a container that is thought to be confined must not run free. Without
// a name it is the default one, which a privileged container doesn't get.
func (a *appArmor) choose(asked *spec.SecurityProfile, privileged bool) (string, error) {
	kind := spec.ProfileRuntimeDefault
	if asked != nil {
		kind = asked.Kind
	}
	switch kind {
	case spec.ProfileUnconfined:
		return "", nil
	case spec.ProfileLocalhost:
		there, err := a.host.Loaded(asked.Localhost)
		if err != nil {
			return "", badProfile("apparmor", asked, "needs AppArmor: "+err.Error())
		}
		if !there {
			return "", badProfile("apparmor", asked, "is not loaded")
		}
		return asked.Localhost, nil
	}
	if privileged {
		return "", nil
	}
	err := a.load()
	if err == nil {
		return a.profile, nil
	}
	if asked != nil && !errors.Is(err, apparmor.ErrOff) {
		return "", &spec.FieldError{Field: "linux.security_context.apparmor", Value: string(asked.Kind), Rule: err.Error()}
	}
	return "", nil
}
