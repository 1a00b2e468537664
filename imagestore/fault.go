package imagestore

import (
	"github.com/sirupsen/logrus"

	"github.com/berth-runtime/berth/imagestore/fault"
)

// guarded does the work for an image. A panic in it, or in a goroutine of its own that was guarded too, is logged with its stack; the caller gets
// ErrPanicked.
func guarded[T any](log logrus.FieldLogger, work string, f func() (T, error)) (result T, err error) {
	err = fault.Guard(func() (err error) {
		result, err = f()
		return err
	})
	if told := fault.Told(err); told != "" {
		log.WithFields(logrus.Fields{"op": work, "error": told}).Error("image store: work panicked")
	}
	return result, err
}
