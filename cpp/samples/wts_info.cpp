/// wts_info: what is in a `.wts` file, and whether it is whole and what its sidecar says.
///
/// Exit codes: 0 all is well; 1 the file can be read, and does not agree with its sidecar or lacks a tensor asked for; 2 it cannot be
/// read, or the call is wrong.

#include <porter/wts.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr const char* usage = R"(usage: wts_info [options] FILE

Reads all of a .wts file (tensorrtx, nvidia-v1 or nvidia-v2), checks every character, compares the values with the
CRC-32 in FILE.json where porter wrote one, and lists the tensors.

  --digest          CRC-32 and SHA-256 of each tensor's values; the latter is compared with the sidecar's
  --json            the list, or the error, as JSON
  --only NAME       read this tensor alone (may be repeated)
  --threads N       threads that decode, 0 for as many as the machine has (default 1)
  --narrow TYPE     half or bfloat16: round floats, and say what that changes
  --no-sidecar      do not look at FILE.json
  --help

Exit codes: 0 all is well; 1 it does not agree with its sidecar, or lacks a tensor asked for; 2 it cannot be read.
)";

struct Arguments {
    porter::Options options;
    std::string path;
    bool digest = false, json = false, help = false;
};

struct UsageError {
    std::string message;
};

unsigned read_threads(const std::string& text) {
    char* end = nullptr;
    const unsigned long number = std::strtoul(text.c_str(), &end, 10);
    if (text.empty() || text.size() > 4 || *end != '\0' || text[0] == '-' || text[0] == '+') {
        throw UsageError{"--threads needs a number, not '" + porter::detail::printable(text) + "'"};
    }
    return static_cast<unsigned>(number);
}

porter::Narrow read_narrow(const std::string& text) {
    if (text != "half" && text != "bfloat16") {
        throw UsageError{"--narrow needs half or bfloat16, not '" + porter::detail::printable(text) + "'"};
    }
    return text == "half" ? porter::Narrow::half : porter::Narrow::bfloat16;
}

Arguments read_arguments(const std::vector<std::string>& words) {
    Arguments arguments;
    bool options_end = false;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const std::string& word = words[i];
        const auto value = [&]() -> const std::string& {
            if (i + 1 == words.size()) {
                throw UsageError{word + " needs a value"};
            }
            return words[++i];
        };
        if (options_end || word.empty() || word[0] != '-') {
            if (!arguments.path.empty()) {
                throw UsageError{"one file at a time"};
            }
            arguments.path = word;
        } else if (word == "--") {
            options_end = true;
        } else if (word == "--digest") {
            arguments.digest = true;
        } else if (word == "--json") {
            arguments.json = true;
        } else if (word == "--no-sidecar") {
            arguments.options.sidecar = false;
        } else if (word == "--only") {
            arguments.options.only.push_back(value());
        } else if (word == "--threads") {
            arguments.options.threads = read_threads(value());
        } else if (word == "--narrow") {
            arguments.options.narrow = read_narrow(value());
        } else if (word == "--help" || word == "-h") {
            arguments.help = true;
        } else {
            throw UsageError{"unknown option '" + porter::detail::printable(word) + "'"};
        }
    }
    if (arguments.path.empty() && !arguments.help) {
        throw UsageError{"which file?"};
    }
    return arguments;
}

/// `text` as a JSON string. Bytes that are no UTF-8 become lone surrogates, as in Python, so that names stay apart.
std::string json_text(std::string_view text) {
    std::string quoted = "\"";
    for (std::size_t at = 0; at < text.size();) {
        char32_t character = 0;
        const std::size_t length = porter::detail::utf8_length(text, at, character);
        char escaped[8];
        if (length == 0) {
            std::snprintf(escaped, sizeof escaped, "\\udc%02x", porter::detail::byte_at(text, at));
            quoted += escaped;
        } else if (character == '"' || character == '\\') {
            quoted += '\\';
            quoted += text[at];
        } else if (character < 0x10000 && porter::detail::is_hidden(character)) {
            std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(character));
            quoted += escaped;
        } else {
            quoted += text.substr(at, length);
        }
        at += length == 0 ? 1 : length;
    }
    return quoted + "\"";
}

std::string hex(std::uint32_t value) {
    char text[9];
    std::snprintf(text, sizeof text, "%08x", value);
    return text;
}

std::string shape_of(const porter::Tensor& tensor) {
    return tensor.shape_known() ? porter::detail::shape_text(tensor.shape()) : "?";
}

std::string digest_of(const porter::Tensor& tensor, bool wanted) {
    return wanted ? tensor.sha256() : std::string();
}

/// Whether the values have the sidecar's SHA-256; also where there is none, or they were narrowed.
bool agrees(const porter::Tensor& tensor, const std::string& digest, bool narrowed) {
    return digest.empty() || narrowed || tensor.recorded_sha256().empty() || digest == tensor.recorded_sha256();
}

bool print_json(const porter::Weights& weights, const Arguments& arguments) {
    const bool narrowed = arguments.options.narrow != porter::Narrow::none;
    bool good = true;
    std::cout << "{\"path\": " << json_text(weights.path()) << ", \"dialect\": " << json_text(name_of(weights.dialect()))
              << ", \"sidecar\": " << (weights.has_sidecar() ? "true" : "false") << ", \"tensors\": [";
    const char* separator = "\n ";
    for (const porter::Tensor& tensor : weights) {
        std::cout << separator << "{\"name\": " << json_text(tensor.name()) << ", \"dtype\": " << json_text(name_of(tensor.dtype()))
                  << ", \"shape\": " << (tensor.shape_known() ? porter::detail::shape_text(tensor.shape()) : "null")
                  << ", \"count\": " << tensor.count() << ", \"nbytes\": " << tensor.nbytes()
                  << ", \"original_dtype\": " << json_text(tensor.original_dtype()) << ", \"line\": " << tensor.line()
                  << ", \"offset\": " << tensor.offset();
        const std::string digest = digest_of(tensor, arguments.digest);
        if (arguments.digest) {
            std::cout << ", \"crc32\": " << json_text(hex(tensor.crc32())) << ", \"sha256\": " << json_text(digest);
        }
        if (narrowed) {
            std::cout << ", \"overflowed\": " << tensor.overflowed() << ", \"underflowed\": " << tensor.underflowed()
                      << ", \"inexact\": " << tensor.inexact();
        }
        const bool same = agrees(tensor, digest, narrowed);
        if (!same) {
            std::cout << ", \"agrees\": false";
        }
        good = good && same;
        std::cout << "}";
        separator = ",\n ";
    }
    std::cout << "], \"notices\": [";
    separator = "";
    for (const std::string& notice : weights.notices()) {
        std::cout << separator << json_text(notice);
        separator = ", ";
    }
    std::cout << "], \"ok\": " << (good ? "true" : "false") << "}\n";
    return good;
}

bool print_table(const porter::Weights& weights, const Arguments& arguments) {
    const bool narrowed = arguments.options.narrow != porter::Narrow::none;
    bool good = true;
    std::size_t nbytes = 0, name_width = 4, shape_width = 5;
    for (const porter::Tensor& tensor : weights) {
        nbytes += tensor.nbytes();
        name_width = std::max(name_width, porter::detail::characters(porter::detail::printable(tensor.name())));
        shape_width = std::max(shape_width, shape_of(tensor).size());
    }
    std::cout << "wts:" << name_of(weights.dialect()) << "  " << weights.size() << (weights.size() == 1 ? " tensor, " : " tensors, ")
              << nbytes << " bytes of values\n";
    const auto padded = [](std::string text, std::size_t width) {
        text.resize(text.size() + width - std::min(width, porter::detail::characters(text)), ' ');
        return text + "  ";
    };
    std::cout << padded("NAME", name_width) << padded("SHAPE", shape_width) << "DTYPE     COUNT";
    std::cout << (narrowed ? "  OVERFLOWED  TO ZERO  INEXACT" : "") << (arguments.digest ? "  CRC32  SHA256" : "") << "\n";
    for (const porter::Tensor& tensor : weights) {
        std::cout << padded(porter::detail::printable(tensor.name()), name_width) << padded(shape_of(tensor), shape_width)
                  << padded(name_of(tensor.dtype()), 8) << tensor.count();
        if (narrowed) {
            std::cout << "  " << tensor.overflowed() << "  " << tensor.underflowed() << "  " << tensor.inexact();
        }
        const std::string digest = digest_of(tensor, arguments.digest);
        if (arguments.digest) {
            std::cout << "  " << hex(tensor.crc32()) << "  " << digest;
        }
        const bool same = agrees(tensor, digest, narrowed);
        std::cout << (same ? "\n" : "  DIFFERS from the sidecar\n");
        good = good && same;
    }
    for (const std::string& notice : weights.notices()) {
        std::cerr << "note: " << porter::detail::printable(notice) << "\n";
    }
    const bool whole = arguments.options.only.empty();
    std::cout << "check  " << (whole ? "every value" : "the values asked for") << (weights.has_sidecar() ? " and the sidecar" : "")
              << (good ? ": ok\n" : ": DIFFERS\n");
    return good;
}

/// Says what is wrong, and gives the exit code.
int report(const porter::Error& error, bool json) {
    if (json) {
        std::cout << "{\"error\": {\"code\": " << json_text(porter::id(error.code)) << ", \"message\": " << json_text(error.message)
                  << ", \"path\": " << json_text(error.path) << ", \"offset\": " << error.offset << ", \"line\": " << error.line
                  << ", \"column\": " << error.column << ", \"tensor\": " << json_text(error.tensor)
                  << ", \"hint\": " << json_text(error.hint) << "}, \"ok\": false}\n";
    } else {
        std::cerr << error.text() << "\n";
    }
    switch (error.code) {
    case porter::ErrorCode::sidecar_disagrees:
    case porter::ErrorCode::checksum_mismatch:
    case porter::ErrorCode::value_not_of_type:
    case porter::ErrorCode::missing_tensor: return 1;
    default: return 2;
    }
}

int run(const std::vector<std::string>& words) {
    const Arguments arguments = read_arguments(words);
    if (arguments.help) {
        std::cout << usage;
        return 0;
    }
    const porter::Result result = porter::try_load(arguments.path, arguments.options);
    if (!result) {
        return report(result.error, arguments.json);
    }
    const bool good = arguments.json ? print_json(result.weights, arguments) : print_table(result.weights, arguments);
    std::cout.flush();
    if (!std::cout) {
        std::cerr << "error: the output cannot be written\n";
        return 2;
    }
    return good ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    try {
        return run(std::vector<std::string>(argv + 1, argv + argc));
    } catch (const UsageError& error) {
        std::cerr << "error: " << error.message << "\n\n" << usage;
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
    }
    return 2;
}
