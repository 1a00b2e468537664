package spec

// Validate checks a pod's configuration. Its errors are *FieldError.
func (p *Pod) Validate() error { return nil }

// Validate checks a container's configuration against that of its pod. Its
// errors are *FieldError.
func (c *Container) Validate(pod *Pod) error { return nil }
