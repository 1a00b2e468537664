package program

// compiler is a builder that has the words for all that launches are made of. They come in kinds; a kind's
// struct names those that it makes use of, so that what is done with files, say, knows no process.
type compiler struct {
	*builder
	fileSteps
	filesystemSteps
	mountSteps
	rootSteps
	maskSteps
	gateSteps
	namespaceSteps
	processSteps
}

type (
	// fileSteps open, make and write what has a path.
	fileSteps struct{ *builder }
	// filesystemSteps make what the kernel brings: proc, sysfs, tmpfs, cgroup.
	filesystemSteps struct{ fileSteps }
	// deviceSteps make nodes, links and the console in /dev.
	deviceSteps struct{ fileSteps }
	// mountSteps put mounts into the root.
	mountSteps struct {
		*builder
		fileSteps
		filesystemSteps
		deviceSteps
	}
	// rootSteps change the root.
	rootSteps struct{ fileSteps }
	// maskSteps hide and protect what is in the root.
	maskSteps struct {
		*builder
		fileSteps
		filesystemSteps
	}
	// gateSteps send messages, and wait at gates.
	gateSteps struct{ *builder }
	// namespaceSteps make and enter namespaces, cgroups and sessions.
	namespaceSteps struct {
		*builder
		fileSteps
		gateSteps
	}
	// schedulingSteps say how the kernel is to schedule.
	schedulingSteps struct{ *builder }
	// processSteps make the process what it is to be, and end in execve.
	processSteps struct {
		*builder
		fileSteps
		gateSteps
		schedulingSteps
	}
)

func newCompiler() compiler {
	b := newBuilder()
	file, gate := fileSteps{b}, gateSteps{b}
	filesystem := filesystemSteps{file}
	return compiler{
		builder: b, fileSteps: file, filesystemSteps: filesystem, gateSteps: gate, rootSteps: rootSteps{file},
		mountSteps:     mountSteps{b, file, filesystem, deviceSteps{file}},
		maskSteps:      maskSteps{b, file, filesystem},
		namespaceSteps: namespaceSteps{b, file, gate},
		processSteps:   processSteps{b, file, gate, schedulingSteps{b}},
	}
}
