package imagestore

import (
	"runtime/debug"
	"sync"
)

// thriftyPercent is how much garbage there may be while layers are unpacked, of what is in use. That is then mostly the decompressors' windows and
// blocks on their way: much, without pointers, and so neither worth doubling nor dear to look through.
const thriftyPercent = 30

// thrift is the garbage collector's setting, which is the process's.
var thrift struct {
	sync.Mutex
	users  int // pulls that unpack
	before int
}

// beThrifty has the process keep close to the memory that it needs, until the function that it returns is called.
func beThrifty() (end func()) {
	thrift.Lock()
	defer thrift.Unlock()
	if thrift.users++; thrift.users == 1 {
		thrift.before = debug.SetGCPercent(thriftyPercent)
		if thrift.before >= 0 && thrift.before < thriftyPercent { // somebody wants it so
			debug.SetGCPercent(thrift.before)
		}
	}
	return func() {
		thrift.Lock()
		defer thrift.Unlock()
		if thrift.users--; thrift.users == 0 {
			debug.SetGCPercent(thrift.before)
		}
	}
}
