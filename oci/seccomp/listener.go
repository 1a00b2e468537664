package seccomp

import (
	"fmt"
	"path"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// HandOver is the call by which a process gives away the descriptor of its filter's
// listener: the one call that it has to make under the filter before its execve.
const HandOver = "sendmsg"

// checkListener wants a profile that refers calls to a listener to say where it is,
// and to let the descriptor get there. The default action can't refer: the calls
// around it would wait for a listener that has no descriptor yet.
func checkListener(profile *specs.LinuxSeccomp, a *arch) error {
	const action = "SCMP_ACT_NOTIFY"
	if profile.DefaultAction == specs.ActNotify {
		return fmt.Errorf("%w: %s as the default action", ErrInvalid, action)
	}
	if !path.IsAbs(profile.ListenerPath) {
		return fmt.Errorf("%w: %s needs an absolute listenerPath, not %q", ErrInvalid, action, profile.ListenerPath)
	}
	p, err := newPlan(profile, a)
	if err != nil {
		return err
	}
	returns := []uint32{p.rest}
	if v := p.verdicts[a.calls()[HandOver]]; v != nil {
		returns[0] = v.ret
		for _, r := range v.rules {
			returns = append(returns, r.ret)
		}
	}
	for _, ret := range returns {
		if ret != unix.SECCOMP_RET_ALLOW && ret != unix.SECCOMP_RET_LOG {
			return fmt.Errorf("%w: with %s it must allow %s, by which the listener gets its descriptor", ErrInvalid, action, HandOver)
		}
	}
	return nil
}
