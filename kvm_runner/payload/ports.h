#ifndef TWINWALK_KVM_RUNNER_PAYLOAD_PORTS_H_
#define TWINWALK_KVM_RUNNER_PAYLOAD_PORTS_H_

/* I/O ports by which the payload hands control back; read by assembler and C++. */

#define TWINWALK_PORT_DONE 0x10       /* the stub ended */
#define TWINWALK_PORT_LEFT_GUEST 0x11 /* VMRUN came back */
#define TWINWALK_PORT_EXCEPTION 0x40  /* + vector, 0x40..0x5f */

#endif /* TWINWALK_KVM_RUNNER_PAYLOAD_PORTS_H_ */
