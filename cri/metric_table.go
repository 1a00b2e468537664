package cri

import "github.com/berth-runtime/berth/sandbox"

// metrics are all that there are.
var metrics = []metric{
	{"container_last_seen", "Last time a container was seen by the exporter", gauge, nil, ofContainer(func(s *subject) []point { return is(uint64(s.now)) })},
	{"container_start_time_seconds", "Start time of the container since unix epoch in seconds.", gauge, nil, ofContainer(func(s *subject) []point {
		return is(uint64(s.container.Container.StartedAt.Unix()))
	})},

	{"container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", counter, []string{"cpu"}, func(s *subject) []point {
		if s.usage == nil || s.usage.CPU == nil {
			return nil
		}
		return []point{{*s.usage.CPU / second, []string{"total"}}}
	}},
	{"container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", counter, nil, ofCPU(func(c *sandbox.CPUDetail) uint64 { return c.User / second })},
	{"container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", counter, nil, ofCPU(func(c *sandbox.CPUDetail) uint64 { return c.System / second })},
	{"container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", counter, nil, ofCPU(func(c *sandbox.CPUDetail) uint64 { return c.Periods })},
	{"container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", counter, nil, ofCPU(func(c *sandbox.CPUDetail) uint64 { return c.Throttled })},
	{"container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", counter, nil, ofCPU(func(c *sandbox.CPUDetail) uint64 { return c.ThrottledTime / second })},

	{"container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", gauge, nil, ofMemory(func(m *sandbox.MemoryUsage) uint64 { return m.Current })},
	{"container_memory_working_set_bytes", "Current working set in bytes.", gauge, nil, ofMemory(func(m *sandbox.MemoryUsage) uint64 { return m.WorkingSet })},
	{"container_memory_rss", "Size of RSS in bytes.", gauge, nil, ofMemory(func(m *sandbox.MemoryUsage) uint64 { return m.RSS })},
	{"container_memory_cache", "Number of bytes of page cache memory.", gauge, nil, ofMemoryDetail(func(m *sandbox.MemoryDetail) *uint64 { return &m.Cache })},
	{"container_memory_kernel_usage", "Size of kernel memory allocated in bytes.", gauge, nil, ofMemoryDetail(func(m *sandbox.MemoryDetail) *uint64 { return &m.Kernel })},
	{"container_memory_mapped_file", "Size of memory mapped files in bytes.", gauge, nil, ofMemoryDetail(func(m *sandbox.MemoryDetail) *uint64 { return &m.MappedFile })},
	{"container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", gauge, nil, ofMemoryDetail(func(m *sandbox.MemoryDetail) *uint64 { return m.Peak })},
	{"container_memory_failcnt", "Number of memory usage hits limits", counter, nil, ofMemoryDetail(func(m *sandbox.MemoryDetail) *uint64 { return &m.LimitHits })},
	{"container_memory_failures_total", "Cumulative count of memory allocation failures.", counter, []string{"failure_type", "scope"}, memoryFailures},
	{"container_oom_events_total", "Count of out of memory events observed for the container", counter, nil, ofMemoryDetail(func(m *sandbox.MemoryDetail) *uint64 { return &m.OOMKills })},
	{"container_memory_swap", "Container swap usage in bytes.", gauge, nil, func(s *subject) []point {
		if s.usage == nil || s.usage.Swap == nil {
			return nil
		}
		return is(s.usage.Swap.Current)
	}},
	{"container_hugetlb_usage_bytes", "Current hugepage usage in bytes", gauge, []string{"pagesize"}, ofHugepages(func(h sandbox.HugepageUsage) *uint64 { return &h.Current })},
	{"container_hugetlb_max_usage_bytes", "Maximum hugepage usage recorded in bytes", gauge, []string{"pagesize"}, ofHugepages(func(h sandbox.HugepageUsage) *uint64 { return h.Peak })},

	{"container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.", counter, nil, ofPressure(cpuPressure, some)},
	{"container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.", counter, nil, ofPressure(cpuPressure, full)},
	{"container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.", counter, nil, ofPressure(memoryPressure, some)},
	{"container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.", counter, nil, ofPressure(memoryPressure, full)},
	{"container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.", counter, nil, ofPressure(ioPressure, some)},
	{"container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.", counter, nil, ofPressure(ioPressure, full)},

	{"container_network_receive_bytes_total", "Cumulative count of bytes received", counter, interfaceLabel, ofInterfaces(func(c *sandbox.InterfaceCounters) uint64 { return c.RxBytes })},
	{"container_network_receive_packets_total", "Cumulative count of packets received", counter, interfaceLabel, ofInterfaces(func(c *sandbox.InterfaceCounters) uint64 { return c.RxPackets })},
	{"container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", counter, interfaceLabel, ofInterfaces(func(c *sandbox.InterfaceCounters) uint64 { return c.RxDropped })},
	{"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", counter, interfaceLabel, ofInterfaces(func(c *sandbox.InterfaceCounters) uint64 { return c.RxErrors })},
	{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", counter, interfaceLabel, ofInterfaces(func(c *sandbox.InterfaceCounters) uint64 { return c.TxBytes })},
	{"container_network_transmit_packets_total", "Cumulative count of packets transmitted", counter, interfaceLabel, ofInterfaces(func(c *sandbox.InterfaceCounters) uint64 { return c.TxPackets })},
	{"container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", counter, interfaceLabel, ofInterfaces(func(c *sandbox.InterfaceCounters) uint64 { return c.TxDropped })},
	{"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", counter, interfaceLabel, ofInterfaces(func(c *sandbox.InterfaceCounters) uint64 { return c.TxErrors })},

	{"container_blkio_device_usage_total", "Blkio Device bytes usage", counter, []string{"device", "major", "minor", "operation"}, deviceOperations},
	{"container_fs_reads_bytes_total", "Cumulative count of bytes read", counter, deviceLabel, ofDisks(func(d sandbox.DiskUsage) uint64 { return d.ReadBytes })},
	{"container_fs_reads_total", "Cumulative count of reads completed", counter, deviceLabel, ofDisks(func(d sandbox.DiskUsage) uint64 { return d.ReadOperations })},
	{"container_fs_writes_bytes_total", "Cumulative count of bytes written", counter, deviceLabel, ofDisks(func(d sandbox.DiskUsage) uint64 { return d.WriteBytes })},
	{"container_fs_writes_total", "Cumulative count of writes completed", counter, deviceLabel, ofDisks(func(d sandbox.DiskUsage) uint64 { return d.WriteOperations })},
	{"container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", gauge, deviceLabel, ofFilesystem(func(_ *sandbox.FilesystemStats, l *sandbox.LayerUsage) uint64 { return l.Bytes })},
	{"container_fs_limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", gauge, deviceLabel, ofFilesystem(func(f *sandbox.FilesystemStats, _ *sandbox.LayerUsage) uint64 { return f.Bytes })},
	{"container_fs_inodes_total", "Number of Inodes", gauge, deviceLabel, ofFilesystem(func(f *sandbox.FilesystemStats, _ *sandbox.LayerUsage) uint64 { return f.Inodes })},
	{"container_fs_inodes_free", "Number of available Inodes", gauge, deviceLabel, ofFilesystem(func(f *sandbox.FilesystemStats, _ *sandbox.LayerUsage) uint64 { return f.FreeInodes })},

	{"container_processes", "Number of processes running inside the container.", gauge, nil, ofProcesses(func(p *sandbox.ProcessMetrics) *uint64 { return &p.Processes })},
	{"container_file_descriptors", "Number of open file descriptors for the container.", gauge, nil, ofProcesses(func(p *sandbox.ProcessMetrics) *uint64 { return p.Descriptors })},
	{"container_sockets", "Number of open sockets for the container.", gauge, nil, ofProcesses(func(p *sandbox.ProcessMetrics) *uint64 { return p.Sockets })},
	{"container_threads", "Number of threads running inside the container", gauge, nil, func(s *subject) []point {
		if s.usage == nil {
			return nil
		}
		return one(s.usage.Tasks)
	}},
	{"container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero", gauge, nil, func(s *subject) []point {
		if s.detail == nil {
			return nil
		}
		return one(s.detail.MaxTasks)
	}},
	// cAdvisor's "unlimited" is -1, which CRI has no number for: then there is none.
	{"container_ulimits_soft", "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice", gauge, []string{"ulimit"}, func(s *subject) []point {
		if s.container == nil || s.container.Processes == nil || s.container.Processes.OpenFileLimit == nil {
			return nil
		}
		return []point{{*s.container.Processes.OpenFileLimit, []string{"max_open_files"}}}
	}},

	{"container_spec_cpu_period", "CPU period of the container", gauge, nil, ofContainer(cpuPeriod)},
	{"container_spec_cpu_quota", "CPU quota of the container", gauge, nil, ofContainer(cpuQuota)},
	{"container_spec_cpu_shares", "CPU share of the container", gauge, nil, ofContainer(cpuShares)},
	{"container_spec_memory_limit_bytes", "Memory limit for the container.", gauge, nil, ofContainer(ofMemoryDetail(func(m *sandbox.MemoryDetail) *uint64 { return &m.MemoryLimit }))},
	{"container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container.", gauge, nil, ofContainer(ofMemoryDetail(func(m *sandbox.MemoryDetail) *uint64 { return &m.Reservation }))},
	{"container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", gauge, nil, ofContainer(ofMemoryDetail(func(m *sandbox.MemoryDetail) *uint64 { return &m.MemoryAndSwap }))},
}

var (
	interfaceLabel = []string{"interface"}
	deviceLabel    = []string{"device"}
)

func cpuPressure(u *sandbox.Usage) *sandbox.Pressure    { return u.CPUPressure }
func memoryPressure(u *sandbox.Usage) *sandbox.Pressure { return u.MemoryPressure }
func ioPressure(u *sandbox.Usage) *sandbox.Pressure     { return u.IOPressure }
func some(p *sandbox.Pressure) uint64                   { return p.Some.Total }
func full(p *sandbox.Pressure) uint64                   { return p.Full.Total }
