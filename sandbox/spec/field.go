package spec

import (
	"errors"
	"fmt"
)

// ErrInvalid is what every *FieldError is, for errors.Is.
var ErrInvalid = errors.New("invalid configuration")

// FieldError says which field of a client's configuration breaks which rule.
type FieldError struct {
	Field string // CRI's name of it, e.g. "linux.sysctls[kernel.foo]"
	Value string // what the client sent
	Rule  string // what a good value is
}

// Error names the field, the value as sent (cut when long) and the rule.
func (e *FieldError) Error() string {
	const longest = 128
	value := e.Value
	if len(value) > longest {
		value = value[:longest] + "…"
	}
	return fmt.Sprintf("%s %q: %s", e.Field, value, e.Rule)
}

// Is makes errors.Is(err, ErrInvalid) true.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// invalid makes a *FieldError; value is printed as %v does.
func invalid(field string, value any, rule string, args ...any) error {
	return &FieldError{Field: field, Value: fmt.Sprint(value), Rule: fmt.Sprintf(rule, args...)}
}

// check is one rule of a Validate; firstError runs them in order.
type check func() error

// firstError is the first error of checks.
func firstError(checks ...check) error {
	for _, c := range checks {
		if err := c(); err != nil {
			return err
		}
	}
	return nil
}
