package spec

import (
	"path/filepath"
	"reflect"
	"strings"
)

// Validate checks a container's configuration against that of its pod. Its
// errors are *FieldError.
func (c *Container) Validate(pod *Pod) error {
	return firstError(
		func() error { return validateName("metadata.name", c.Metadata.Name) },
		c.validateImage,
		c.validateCommand,
		c.validateEnvs,
		func() error { return validateMounts(c.Mounts) },
		c.validateDevices,
		c.validateLogPath,
		c.validateStopSignal,
		func() error { return c.Resources.validate("linux.resources") },
		func() error { return c.Security.validate(&pod.Security) },
	)
}

func (c *Container) validateImage() error {
	if c.Image.Image == "" {
		return invalid("image.image", "", "is missing")
	}
	return nil
}

// validateCommand refuses what execve(2) cannot take.
func (c *Container) validateCommand() error {
	for _, list := range []struct {
		field string
		words []string
	}{{"command", c.Command}, {"args", c.Args}} {
		for i, w := range list.words {
			if strings.ContainsRune(w, 0) {
				return invalid(index(list.field, i), w, "must not have NUL")
			}
		}
	}
	if c.WorkingDir == "" {
		return nil
	}
	if !strings.HasPrefix(c.WorkingDir, "/") || strings.ContainsRune(c.WorkingDir, 0) {
		return invalid("working_dir", c.WorkingDir, "must be an absolute path without NUL")
	}
	return nil
}

func (c *Container) validateEnvs() error {
	for i, e := range c.Envs {
		if !validEnvKey(e.Key) {
			return invalid(index("envs", i)+".key", e.Key, "must not be empty, nor have = or NUL")
		}
		if strings.ContainsRune(string(e.Value), 0) {
			// Not the value: it may be a secret.
			return invalid(index("envs", i)+".value", e.Key, "the value of this variable must not have NUL")
		}
	}
	return nil
}

// validEnvKey says whether key can stand before the = of an environment entry.
func validEnvKey(key string) bool { return key != "" && !strings.ContainsAny(key, "=\x00") }

func (c *Container) validateDevices() error {
	for i, d := range c.Devices {
		field := index("devices", i)
		if err := validateAbsolute(field+".host_path", d.HostPath); err != nil {
			return err
		}
		if err := validateAbsolute(field+".container_path", d.ContainerPath); err != nil {
			return err
		}
		if d.Permissions == "" || strings.Trim(d.Permissions, "rwm") != "" {
			return invalid(field+".permissions", d.Permissions, "must be one or more of r, w and m")
		}
	}
	return nil
}

// validateLogPath keeps the log below the pod's log directory.
func (c *Container) validateLogPath() error {
	if c.LogPath != "" && (!filepath.IsLocal(c.LogPath) || filepath.Clean(c.LogPath) == "." || strings.ContainsFunc(c.LogPath, isControl)) {
		return invalid("log_path", c.LogPath, "must be a path below the pod's log_directory")
	}
	return nil
}

func (c *Container) validateStopSignal() error {
	if c.StopSignal < 0 || c.StopSignal > sigRTMax {
		return invalid("stop_signal", c.StopSignal, "must be a signal's number, from 1 to %d", sigRTMax)
	}
	return nil
}

func (s *Security) validate(pod *PodSecurity) error {
	const field = "linux.security_context"
	if s.Privileged && !pod.Privileged {
		return invalid(field+".privileged", s.Privileged, "the pod is not privileged")
	}
	return firstError(
		func() error { return s.validateNamespaces(field+".namespace_options", pod) },
		func() error { return s.validateUser(field) },
		func() error { return validateGroups(field, s.SupplementalGroups, s.SupplementalGroupsPolicy) },
		func() error { return s.validateCapabilities(field + ".capabilities") },
		func() error { return validatePaths(field+".masked_paths", s.MaskedPaths) },
		func() error { return validatePaths(field+".readonly_paths", s.ReadonlyPaths) },
		func() error { return s.Seccomp.validateSeccomp(field + ".seccomp") },
		func() error { return s.AppArmor.validate(field + ".apparmor") },
		func() error { return s.SELinux.validate(field + ".selinux_options") },
	)
}

// validateNamespaces wants the pod's user namespace, or none named: a container
// cannot be in another than its pod.
func (s *Security) validateNamespaces(field string, pod *PodSecurity) error {
	if err := s.Namespaces.validate(field); err != nil {
		return err
	}
	if err := s.Namespaces.validatePID(field+".pid", pod.Namespaces); err != nil {
		return err
	}
	if s.Namespaces.User == nil {
		return nil
	}
	own, pods := s.Namespaces.OwnUser(), pod.Namespaces.OwnUser()
	if (own == nil) != (pods == nil) || own != nil && !reflect.DeepEqual(own, pods) {
		return invalid(field+".userns_options", *s.Namespaces.User, "must be the same as the pod's")
	}
	return nil
}

// validatePID wants a PID namespace to share that the pod has: only one made with pid POD has its own. The
// host's is no way out of a pod in a user namespace, even if the container doesn't name that.
func (n Namespaces) validatePID(field string, pod Namespaces) error {
	if n.PID == NamespacePod && pod.PID != NamespacePod {
		return invalid(field, "POD", "the pod has no PID namespace to share, it was made with pid %s", pod.PID.cri())
	}
	if n.PID == NamespaceNode && pod.OwnUser() != nil {
		return invalid(field, n.PID, "must not be NODE in a user namespace")
	}
	return nil
}

func (s *Security) validateUser(field string) error {
	switch {
	case s.RunAsUser != nil && s.RunAsUsername != "":
		return invalid(field+".run_as_username", s.RunAsUsername, "excludes run_as_user")
	case s.RunAsGroup != nil && s.RunAsUser == nil && s.RunAsUsername == "":
		return invalid(field+".run_as_group", *s.RunAsGroup, "needs run_as_user or run_as_username")
	case strings.ContainsFunc(s.RunAsUsername, func(r rune) bool { return isControl(r) || r == ':' }):
		return invalid(field+".run_as_username", s.RunAsUsername, "must not have colons or control characters")
	}
	if err := validateID(field+".run_as_user", s.RunAsUser); err != nil {
		return err
	}
	return validateID(field+".run_as_group", s.RunAsGroup)
}

func (s *Security) validateCapabilities(field string) error {
	for _, list := range []struct {
		field string
		names []string
	}{
		{field + ".add_capabilities", s.CapabilitiesAdd},
		{field + ".drop_capabilities", s.CapabilitiesDrop},
		{field + ".add_ambient_capabilities", s.CapabilitiesAmbient},
	} {
		for _, name := range list.names {
			if _, ok := capabilityName(name); !ok && !strings.EqualFold(name, allCapabilities) {
				return unknownCapability(list.field, name)
			}
		}
	}
	return nil
}

func validatePaths(field string, paths []string) error {
	for i, p := range paths {
		if err := validateAbsolute(index(field, i), p); err != nil {
			return err
		}
	}
	return nil
}
