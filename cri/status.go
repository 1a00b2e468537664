package cri

import (
	"context"
	"errors"
	"strings"

	"github.com/berth-runtime/berth/cri/stream"
	"github.com/berth-runtime/berth/imagestore"
	"github.com/berth-runtime/berth/sandbox"
	"github.com/berth-runtime/berth/sandbox/spec"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// outcome says how an error appears to a client.
type outcome struct {
	sentinel error
	name     string // package and name, for the test that finds the sentinels
	code     codes.Code
	prefix   string // what kubelet looks for at the start of the message
}

// outcomes is the one table from the domain's errors to gRPC's codes. The first
// row that matches wins.
//
// A row with a prefix has code Unknown: kubelet compares the start of PullImage's
// message, and cri-client takes the "rpc error: code = …" off for Unknown alone.
var outcomes = []outcome{
	// First: whatever is wrong with the image.
	{sandbox.ErrImageVolume, "sandbox.ErrImageVolume", codes.Unknown, "ImageVolumeMountFailed: "},
	{sandbox.ErrNotFound, "sandbox.ErrNotFound", codes.NotFound, ""},
	{sandbox.ErrAmbiguous, "sandbox.ErrAmbiguous", codes.InvalidArgument, ""},
	{sandbox.ErrExists, "sandbox.ErrExists", codes.AlreadyExists, ""},
	{sandbox.ErrState, "sandbox.ErrState", codes.FailedPrecondition, ""},
	{sandbox.ErrHostPort, "sandbox.ErrHostPort", codes.FailedPrecondition, ""},
	{sandbox.ErrNetwork, "sandbox.ErrNetwork", codes.Unavailable, ""},
	// Before the time-out, whose error it comes with: the command did not even begin.
	{sandbox.ErrBusy, "sandbox.ErrBusy", codes.ResourceExhausted, ""},
	{sandbox.ErrTimeout, "sandbox.ErrTimeout", codes.DeadlineExceeded, ""},
	{sandbox.ErrLagging, "sandbox.ErrLagging", codes.Aborted, ""},
	// Said on a stream, which has no codes.
	{sandbox.ErrBehind, "sandbox.ErrBehind", codes.DataLoss, ""},
	{sandbox.ErrRefused, "sandbox.ErrRefused", codes.FailedPrecondition, ""},
	{sandbox.ErrCommand, "sandbox.ErrCommand", codes.InvalidArgument, ""},
	{sandbox.ErrPath, "sandbox.ErrPath", codes.InvalidArgument, ""},
	{sandbox.ErrLogPath, "sandbox.ErrLogPath", codes.InvalidArgument, ""},
	{sandbox.ErrClosed, "sandbox.ErrClosed", codes.Unavailable, ""},
	{sandbox.ErrPanicked, "sandbox.ErrPanicked", codes.Internal, ""},
	{sandbox.ErrBelowUsage, "sandbox.ErrBelowUsage", codes.FailedPrecondition, ""},
	{sandbox.ErrInvalidLimit, "sandbox.ErrInvalidLimit", codes.InvalidArgument, ""},
	{sandbox.ErrNoCheckpoint, "sandbox.ErrNoCheckpoint", codes.FailedPrecondition, ""},
	{sandbox.ErrDump, "sandbox.ErrDump", codes.FailedPrecondition, ""},
	{sandbox.ErrCgroupPath, "sandbox.ErrCgroupPath", codes.InvalidArgument, ""},
	{sandbox.ErrStillOccupied, "sandbox.ErrStillOccupied", codes.FailedPrecondition, ""},
	{sandbox.ErrAttachment, "sandbox.ErrAttachment", codes.InvalidArgument, ""},
	{sandbox.ErrPortTaken, "sandbox.ErrPortTaken", codes.FailedPrecondition, ""},
	{sandbox.ErrNetworkNotReady, "sandbox.ErrNetworkNotReady", codes.Unavailable, ""},
	{spec.ErrInvalid, "spec.ErrInvalid", codes.InvalidArgument, ""},
	// The image has no such user, no readable passwd, no command: its configuration
	// and the client's don't fit together.
	{spec.ErrNoCommand, "spec.ErrNoCommand", codes.InvalidArgument, ""},
	{spec.ErrNoSuchUser, "spec.ErrNoSuchUser", codes.InvalidArgument, ""},
	{spec.ErrUserFile, "spec.ErrUserFile", codes.FailedPrecondition, ""},
	{imagestore.ErrPanicked, "imagestore.ErrPanicked", codes.Internal, ""},
	{imagestore.ErrNotFound, "imagestore.ErrNotFound", codes.NotFound, ""},
	{imagestore.ErrInvalidReference, "imagestore.ErrInvalidReference", codes.InvalidArgument, ""},
	{imagestore.ErrUnavailable, "imagestore.ErrUnavailable", codes.Unknown, "RegistryUnavailable: "},
	{imagestore.ErrRefused, "imagestore.ErrRefused", codes.Unknown, "SignatureValidationFailed: "},
	{imagestore.ErrDenied, "imagestore.ErrDenied", codes.PermissionDenied, ""},
	{imagestore.ErrCorrupt, "imagestore.ErrCorrupt", codes.DataLoss, ""},
	{imagestore.ErrNotArchive, "imagestore.ErrNotArchive", codes.InvalidArgument, ""},
	{imagestore.ErrTooLarge, "imagestore.ErrTooLarge", codes.FailedPrecondition, ""},
	{imagestore.ErrUnsupported, "imagestore.ErrUnsupported", codes.FailedPrecondition, ""},
	// The next three are between the rooms; a client can't cause them.
	{imagestore.ErrInvalidKey, "imagestore.ErrInvalidKey", codes.Internal, ""},
	{imagestore.ErrExists, "imagestore.ErrExists", codes.Internal, ""},
	{imagestore.ErrInUse, "imagestore.ErrInUse", codes.Internal, ""},
	{stream.ErrBusy, "stream.ErrBusy", codes.ResourceExhausted, ""},
	{context.Canceled, "context.Canceled", codes.Canceled, ""},
	{context.DeadlineExceeded, "context.DeadlineExceeded", codes.DeadlineExceeded, ""},
}

// toStatus gives an error its gRPC code. Errors that have one (of gRPC itself)
// keep it; an error without a row is Unknown, and never NotFound: a stray ENOENT
// must not look like "already gone".
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	message := oneLine(err.Error())
	for _, o := range outcomes {
		if errors.Is(err, o.sentinel) {
			return status.Error(o.code, o.prefix+message)
		}
	}
	return status.Error(codes.Unknown, message)
}

// oneLine writes what was joined (errors.Join), a line each, on one, as clients print it.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// clients says whether the client alone can mend what toStatus made a status of, or
// wanted it so: nothing is wrong with the node.
func clients(err error) bool {
	switch status.Code(err) {
	case codes.NotFound, codes.InvalidArgument, codes.AlreadyExists, codes.Canceled:
		return true
	}
	return false
}

// NotFound says of a daemon's answer whether what was asked about isn't there.
func NotFound(err error) bool { return status.Code(err) == codes.NotFound }

// panicked is what the client of a request that panicked gets. The reason stands
// in the log.
func panicked(method string) error {
	return status.Errorf(codes.Internal, "%s: internal error, see the log of berth", method)
}
