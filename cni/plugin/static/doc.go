// Package static is the CNI plugin static: it gives the addresses that its configuration, or the runtime, names, to whoever asks. It keeps
// no leases, so two containers can be given one address.
//
// The runtime's addresses take the place of the configuration's, those of CNI_ARGS are added, as the reference plugin has it.
package static
