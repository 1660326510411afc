// A packet as one line for people who read a trace.
#pragma once

#include <string>

#include "wan/sim/network.h"

namespace longhaul::sim {

std::string DescribePacket(const Packet& packet);

}  // namespace longhaul::sim
