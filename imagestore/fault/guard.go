package fault

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrPanicked is what clients see of a panic.
var ErrPanicked = errors.New("internal error, see the log of berth")

// panicError is a panic that Guard caught.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return ErrPanicked.Error() }

// Unwrap returns ErrPanicked.
func (e *panicError) Unwrap() error { return ErrPanicked }

// Guard calls f, and makes an error of a panic in it, which wraps ErrPanicked and whose text shows no more than that.
func Guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return f()
}

// Told is the panic that err has in it, with its stack; "" when there is none.
func Told(err error) string {
	var p *panicError
	if !errors.As(err, &p) {
		return ""
	}
	return fmt.Sprintf("%v\n%s", p.value, p.stack)
}
