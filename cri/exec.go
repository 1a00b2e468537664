package cri

import (
	"context"
	"strconv"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ExecSync runs a command in a container and returns what it wrote. A command
// that ends with another code than 0 is no error; one that outlives its timeout
// is DeadlineExceeded, which kubelet's probes look for.
func (s *containerCalls) ExecSync(ctx context.Context, req *v1.ExecSyncRequest) (*v1.ExecSyncResponse, error) {
	if req.ContainerId == "" {
		return nil, missing("container_id")
	}
	if err := checkCommand(req.Cmd); err != nil {
		return nil, err
	}
	result, err := s.containers.ExecSync(ctx, req.ContainerId, req.Cmd, decodeSeconds(req.Timeout))
	if err != nil {
		return nil, err
	}
	stdout, stderr := fit(result.Stdout, result.Stderr, maxMessage-messageRoom)
	return &v1.ExecSyncResponse{Stdout: stdout, Stderr: stderr, ExitCode: result.ExitCode}, nil
}

// messageRoom is for what a response holds beside the output: three field tags,
// two lengths and the exit code, each at most 10 bytes.
const messageRoom = 64

// fit cuts output so that both streams go into one message of size bytes: CRI
// bounds each at 16 MB, and kubelet takes messages of no more than 16 MiB. The
// shorter stream keeps up to half of it.
func fit(stdout, stderr []byte, size int) (out, err []byte) {
	if len(stdout)+len(stderr) <= size {
		return stdout, stderr
	}
	keep := max(size-len(stderr), size/2)
	stdout = stdout[:min(len(stdout), keep)]
	return stdout, stderr[:min(len(stderr), size-len(stdout))]
}

// longestWord is what the kernel takes of one argument, its NUL included: MAX_ARG_STRLEN, execve(2). A command whose
// words are too long together is refused there.
const longestWord = 128 << 10

// checkCommand refuses what names no program, and what execve(2) can't take.
func checkCommand(cmd []string) error {
	if len(cmd) == 0 || cmd[0] == "" {
		return missing("cmd")
	}
	for i, word := range cmd {
		if strings.ContainsRune(word, 0) {
			return invalid("cmd["+strconv.Itoa(i)+"]", word, "must not have NUL")
		}
		if len(word) >= longestWord {
			return invalid("cmd["+strconv.Itoa(i)+"]", word, "must be shorter than 128 KiB")
		}
	}
	return nil
}
