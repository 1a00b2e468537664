package criu

import (
	"errors"
	"fmt"
	"io"
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
func converse(path string, req *rpc.CriuReq, notify func(step string) error) (err error) {
	conn, theirs, err := socket()
	if err != nil {
		return err
	}
	cmd := exec.Command(path, "swrk", "3") // not ended with a context: criu isn't to be broken off
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return errors.Join(fmt.Errorf("start criu: %w", err), conn.Close())
	}
	defer func() { err = errors.Join(err, conn.Close(), cmd.Wait()) }()
	_, err = talk(conn, req, func(step string, _ *os.File) error { return notify(step) })
	return err
}

// socket makes that by which a criu is asked: its end is for a process to be started. The caller closes both.
//
// go-criu makes one that other programs can inherit which are started at that moment, a second criu for example; while they run, a criu that has
// died still seems to be there.
func socket() (conn *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_LOCAL, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "criu"), os.NewFile(uintptr(fds[1]), "criu's end")
	defer ours.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make socket: %w", err), theirs.Close())
	}
	return c.(*net.UnixConn), theirs, nil
}

// talk asks, and answers criu until that has the result. notify gets a step's name, and the file that came with it, which is its to close.
func talk(conn *net.UnixConn, req *rpc.CriuReq, notify func(step string, file *os.File) error) (*rpc.CriuResp, error) {
	for {
		resp, file, err := exchange(conn, req)
		if err == nil && !resp.GetSuccess() {
			err = fmt.Errorf("criu failed: %s (errno %d)", resp.GetCrErrmsg(), resp.GetCrErrno())
		}
		if err == nil && resp.GetType() == rpc.CriuReqType_NOTIFY {
			if err := notify(resp.GetNotify().GetScript(), file); err != nil {
				return nil, err
			}
			req = &rpc.CriuReq{Type: resp.Type, NotifySuccess: proto.Bool(true)}
			continue
		}
		if file != nil {
			file.Close()
		}
		return resp, err
	}
}

// exchange sends a request and reads the answer, with the file in it, if there is one.
func exchange(conn *net.UnixConn, req *rpc.CriuReq) (*rpc.CriuResp, *os.File, error) {
	text, err := proto.Marshal(req)
	if err != nil {
		return nil, nil, fmt.Errorf("ask criu: %w", err)
	}
	if _, err := conn.Write(text); err != nil {
		return nil, nil, fmt.Errorf("ask criu: %w", err)
	}
	answer, rights := make([]byte, largestMessage), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := conn.ReadMsgUnix(answer, rights)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read criu's answer: %w", err)
	}
	var file *os.File
	messages, _ := unix.ParseSocketControlMessage(rights[:oobn]) // most have none
	for i := range messages {
		fds, _ := unix.ParseUnixRights(&messages[i])
		for _, fd := range fds { // there is room for one
			_ = unix.SetNonblock(fd, true) // for the poller; of a terminal it can't fail
			file = os.NewFile(uintptr(fd), "from criu")
		}
	}
	resp := &rpc.CriuResp{}
	if err := proto.Unmarshal(answer[:n], resp); err != nil {
		if file != nil {
			file.Close()
		}
		return nil, nil, fmt.Errorf("read criu's answer: %w", err)
	}
	return resp, file, nil
}
