package criu

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// largestMessage is one of criu's: an answer has some numbers and at most a line of text.
const largestMessage = 16 << 10

// converse runs criu for one request (criu.org/RPC, "swrk"), and calls notify with the name of each step that criu tells of, until it has done.
// After an error of notify criu finds nobody to report to, and gives up.
//
// go-criu does the same, but its sockets can be inherited: by another program that is started at that moment, a second criu for example,
// and while that runs a criu that has died still seems to be there.
func converse(path string, req *rpc.CriuReq, notify func(step string) error) (err error) {
	fds, err := unix.Socketpair(unix.AF_LOCAL, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "criu"), os.NewFile(uintptr(fds[1]), "criu's end")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		theirs.Close()
		return fmt.Errorf("make socket: %w", err)
	}
	cmd := exec.Command(path, "swrk", "3") // not ended with a context: criu isn't to be broken off
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return errors.Join(fmt.Errorf("start criu: %w", err), conn.Close())
	}
	defer func() { err = errors.Join(err, conn.Close(), cmd.Wait()) }()
	for {
		resp, err := exchange(conn, req)
		if err != nil {
			return err
		}
		if !resp.GetSuccess() {
			return fmt.Errorf("criu failed: %s (errno %d)", resp.GetCrErrmsg(), resp.GetCrErrno())
		}
		if resp.GetType() != rpc.CriuReqType_NOTIFY {
			return nil
		}
		if err := notify(resp.GetNotify().GetScript()); err != nil {
			return err
		}
		req = &rpc.CriuReq{Type: resp.Type, NotifySuccess: proto.Bool(true)}
	}
}

// exchange sends a request and reads the answer.
func exchange(conn net.Conn, req *rpc.CriuReq) (*rpc.CriuResp, error) {
	text, err := proto.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("ask criu: %w", err)
	}
	if _, err := conn.Write(text); err != nil {
		return nil, fmt.Errorf("ask criu: %w", err)
	}
	answer := make([]byte, largestMessage)
	n, err := conn.Read(answer)
	if err != nil {
		return nil, fmt.Errorf("read criu's answer: %w", err)
	}
	resp := &rpc.CriuResp{}
	if err := proto.Unmarshal(answer[:n], resp); err != nil {
		return nil, fmt.Errorf("read criu's answer: %w", err)
	}
	return resp, nil
}
