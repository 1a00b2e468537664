// Package fault keeps a panic in the work for one image from ending the daemon: an image is what strangers wrote, and many parsers read it.
//
// Duty: [Guard] makes an error of a panic, [Told] what the log is to say of it.
//
// Not its concern: logging, and what is undone. Work that is guarded gives back its locks by defer, and its files as after any other error.
//
// A panic can be caught in its own goroutine only, so whoever starts one to read what is in an image guards what runs in it.
package fault
