package criu

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// restorer begins a restore, and returns the end of it that criu would have.
func restorer(t *testing.T, in Restore) (*Restorer, *net.UnixConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "criu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho Version: 4.1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := New(path).NewRestorer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	if got := strings.Join(r.Command(7), " "); got != path+" swrk 7" {
		t.Errorf("command %q", got)
	}
	conn, err := net.FileConn(r.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := r.Begin(in); err != nil {
		t.Fatal(err)
	}
	return r, conn.(*net.UnixConn)
}

// hears reads what criu is told.
func hears(t *testing.T, conn *net.UnixConn) *rpc.CriuReq {
	t.Helper()
	text := make([]byte, largestMessage)
	n, err := conn.Read(text)
	req := &rpc.CriuReq{}
	if err = errors.Join(err, proto.Unmarshal(text[:n], req)); err != nil {
		t.Fatal(err)
	}
	return req
}

// says is criu's answer, with descriptors.
func says(t *testing.T, conn *net.UnixConn, resp *rpc.CriuResp, fds ...int) {
	t.Helper()
	text, err := proto.Marshal(resp)
	if err == nil {
		_, _, err = conn.WriteMsgUnix(text, unix.UnixRights(fds...), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestRestorer(t *testing.T) {
	dir := t.TempDir()
	r, conn := restorer(t, Restore{
		Images: dir, Work: dir, Root: "/root", Mounts: map[string]string{"/data": "/x"}, Join: map[string]string{"ipc": "/y"}, Inherit: map[string]int{"pipe:[1]": 5},
	})
	opts := hears(t, conn).GetOpts()
	if e := opts.GetExternal(); len(e) != 1 || e[0] != "mnt[/data]:/x" || opts.GetRoot() != "/root" || opts.GetInheritFd()[0].GetFd() != 5 || opts.GetJoinNs()[0].GetNsFile() != "/y" {
		t.Errorf("criu is asked for %v", opts)
	}
	if text, err := os.ReadFile(opts.GetConfigFile()); err != nil || string(text) != "leave-stopped\n" {
		t.Errorf("its configuration: %q, %v", text, err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	step := &rpc.CriuResp{Type: rpc.CriuReqType_NOTIFY.Enum(), Success: proto.Bool(true), Notify: &rpc.CriuNotify{Script: proto.String("orphan-pts-master")}}
	says(t, conn, step, int(write.Fd()))
	write.Close()
	if answer := hears(t, conn); answer.GetType() != rpc.CriuReqType_NOTIFY || !answer.GetNotifySuccess() {
		t.Errorf("answered %v", answer)
	}
	says(t, conn, &rpc.CriuResp{Type: rpc.CriuReqType_RESTORE.Enum(), Success: proto.Bool(true), Restore: &rpc.CriuRestoreResp{Pid: proto.Int32(42)}})
	got, err := r.Result()
	if err != nil || got.PID != 42 || got.Terminal == nil {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := got.Terminal.WriteString("x"); err != nil {
		t.Error(err)
	}
	got.Terminal.Close()
	if text, err := io.ReadAll(read); err != nil || string(text) != "x" {
		t.Errorf("through the terminal came %q, %v: somebody else has it too", text, err)
	}
}

// A criu that can't, or that ends without a word, is an error.
func TestRestorerFails(t *testing.T) {
	dir := t.TempDir()
	r, conn := restorer(t, Restore{Images: dir, Work: dir})
	hears(t, conn)
	says(t, conn, &rpc.CriuResp{Type: rpc.CriuReqType_RESTORE.Enum(), Success: proto.Bool(false), CrErrmsg: proto.String("no such luck")})
	if _, err := r.Result(); err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("of a failure: %v", err)
	}
	r, conn = restorer(t, Restore{Images: dir, Work: dir})
	hears(t, conn)
	conn.Close()
	if _, err := r.Result(); !errors.Is(err, io.EOF) {
		t.Errorf("of a death: %v", err)
	}
	r, _ = restorer(t, Restore{Images: dir, Work: dir})
	r.Close() // nobody ran the command
	if _, err := New("/nonexistent/criu").NewRestorer(t.Context()); !errors.Is(err, ErrUnusable) {
		t.Errorf("without a criu: %v", err)
	}
}
