package sandbox

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/sirupsen/logrus"
)

// panicError is a panic that guarded caught. Clients see no more of it than ErrPanicked.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return ErrPanicked.Error() }

// Unwrap returns ErrPanicked.
func (e *panicError) Unwrap() error { return ErrPanicked }

// guarded calls f, and makes an error of a panic in it: a fault that one pod meets is the end of what was done for
// it, not of the node's runtime. f gives back its locks by defer.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	roomy()
	return f()
}

// tellPanic logs the panic that an error has in it, if any: whoever made it know only that there was one.
func tellPanic(log logrus.FieldLogger, work string, err error) {
	var p *panicError
	if errors.As(err, &p) {
		log.WithFields(logrus.Fields{"op": work, "error": fmt.Sprintf("%v\n%s", p.value, p.stack)}).Error("work panicked")
	}
}
