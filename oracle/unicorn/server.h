#ifndef TWINWALK_ORACLE_UNICORN_SERVER_H_
#define TWINWALK_ORACLE_UNICORN_SERVER_H_

namespace twinwalk::oracle::unicorn {

// Serves the client on kSocketFd with the area at kAreaFd until the client goes away. Returns the
// exit status.
int serve();

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_SERVER_H_
